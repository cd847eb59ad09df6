// What a channel plugin for Omni is written with in TypeScript.
//
// A *channel* is a kind of network, as code. Extend `Channel`, describe it in `channel.json`, and end `src/channel.ts` with
// `export const channel = exportChannel(MyChannel);`. esbuild makes one module of it, componentize-qjs a WASM component, the
// plugin that a host loads.
//
//   wire      the types of the JSON that crosses, generated from those of the Rust SDK
//   channel   the class, one method for each kind of request
//   context   what the host does for a channel
//   errors    what can go wrong, and who acts next
//   http build shape    constructors, and whether JSON is what it should be
//   frame utf8 promise time driver   the bytes that cross, and what runs an instance

import "./promise";
import { deliver as hostDeliver } from "omni:channel/host@1.0.0";
import type { ChannelClass } from "./channel";
import { Shared } from "./context";
import { Driver, FrameError } from "./driver";
import { tellTime } from "./time";

export * from "./build";
export { Channel, type ChannelClass, type EventOutcome, type IngressEvent, replyJson, Started } from "./channel";
export type { Context } from "./context";
export { BadJson, ChannelError, HostError, HttpFailed, SendError } from "./errors";
export * from "./http";
export { fit, type Of, type Shape, shape } from "./shape";
export { decodeUtf8, encodeUtf8 } from "./utf8";
export type * as wire from "./wire";

/** What the component exports: `export const channel = exportChannel(MyChannel);`, at the end of `src/channel.ts`. */
export function exportChannel(type: ChannelClass): { deliver(frame: Uint8Array): void } {
  speakToTheLog();
  const driver = new Driver(type, hostDeliver);
  tellTime(() => driver.now);
  return {
    deliver(frame) {
      try {
        driver.deliver(frame);
      } catch (error) {
        // What is thrown is the error of the result, which is a string.
        throw error instanceof FrameError ? error.message : error;
      }
    },
  };
}

/** A component has no console. */
function speakToTheLog(): void {
  const scope = globalThis as { console?: unknown };
  const shared = new Shared(hostDeliver);
  const say = (level: "debug" | "info" | "warn" | "error") => (...words: unknown[]) => shared.log(level, words.join(" "));
  scope.console ??= { debug: say("debug"), log: say("info"), info: say("info"), warn: say("warn"), error: say("error") };
}
