// What the host does for a channel.

import { HostError, HttpFailed, whole } from "./errors";
import { encode, type Tails, toJson } from "./frame";
import { HttpResponse } from "./http";
import { decodeUtf8, encodeUtf8 } from "./utf8";
import type * as wire from "./wire";

/** What a question is answered with when there is nobody left to answer it. */
const ENDED = "the host has ended this instance";
/** Most entries that the host gives at once. */
const MOST_ENTRIES = 1_000;

/** What all calls of one instance see. */
export class Shared {
  now = 0;
  webhookUrl: string | undefined;

  constructor(readonly deliver: (frame: Uint8Array) => boolean) {}

  log(level: wire.LogLevel, message: string): void {
    this.deliver(encode(toJson({ log: { level, message: String(message) } })));
  }
}

type Answer = { kind: string; said: any; tails: Tails };

/** One call's end of the line to the host. */
export class Link {
  readonly waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: unknown) => void }>();
  private nextId = 1;
  private closed = false;

  constructor(
    private readonly call: number,
    readonly shared: Shared,
  ) {}

  ask(request: wire.HostRequest, tails: Uint8Array[] = []): Promise<Answer> {
    return new Promise((resolve, reject) => {
      // A call that was given up goes no further.
      if (this.closed) return;
      const id = this.nextId++;
      const frame = encode(toJson({ call: { call: this.call, id, request } }), tails);
      this.waiting.set(id, { resolve, reject });
      if (!this.shared.deliver(frame)) {
        this.waiting.delete(id);
        reject(new HostError(ENDED));
      }
    });
  }

  /** Hands the host's answer to the one who waits for it. An answer nobody waits for is dropped. */
  answer(id: number, kind: string, said: any, tails: Tails): void {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    if (kind === "failed") waiting?.reject(new HostError(String(said?.message)));
    else waiting?.resolve({ kind, said, tails });
  }

  /** Gives the call up: who waits is told once, so that what they hold can be let go. */
  close(): void {
    this.closed = true;
    const waiting = Array.from(this.waiting.values());
    this.waiting.clear();
    for (const { reject } of waiting) reject(new HostError("the call was given up"));
  }
}

function unexpected(kind: string): HostError {
  return new HostError(`the host answered something else than was asked: ${kind}`);
}

function bytesOf(tails: Tails): Uint8Array {
  try {
    return tails.nextBytes();
  } catch (error) {
    throw new HostError((error as Error).message);
  }
}

/** The order of keys at the host: by their bytes, which is by code points. */
function compare(one: string, other: string): number {
  const length = Math.min(one.length, other.length);
  for (let i = 0; i < length; i++) {
    const a = one.charCodeAt(i);
    const b = other.charCodeAt(i);
    if (a !== b) {
      // Surrogates stand for what is behind all others.
      const isHigh = (unit: number) => unit >= 0xd800 && unit <= 0xdfff;
      return isHigh(a) === isHigh(b) ? a - b : isHigh(a) ? 1 : -1;
    }
  }
  return one.length - other.length;
}

type Write = [key: string, value: Uint8Array | undefined];

/** Events and entries that are stored together, and the timers and sockets that wait for it. */
export class Batch {
  readonly events: string[] = [];
  /** `undefined` takes an entry away. */
  readonly writes = new Map<string, Uint8Array | undefined>();
  readonly timers: wire.TimerSet[] = [];
  readonly sockets: wire.SocketAct[] = [];

  sorted(): Write[] {
    return Array.from(this.writes).sort(([one], [other]) => compare(one, other));
  }

  /** What crosses: the JSON, and the values beside it. */
  commit(): { json: string; tails: Uint8Array[] } {
    const writes = this.sorted();
    const heads = writes.map(([key, value]) => (value === undefined ? { key, delete: true } : { key }));
    const said: string[] = [];
    if (this.events.length > 0) said.push(`"events":[${this.events.join(",")}]`);
    if (heads.length > 0) said.push(`"writes":${toJson(heads)}`);
    if (this.timers.length > 0) said.push(`"timers":${toJson(this.timers)}`);
    if (this.sockets.length > 0) said.push(`"sockets":${toJson(this.sockets)}`);
    const tails = writes.map(([, value]) => value).filter((value) => value !== undefined);
    return { json: `{${said.join(",")}}`, tails };
  }
}

/** One call's view of the host: its services, and what is stored when the call ends well. */
export class Context {
  /** @internal */
  readonly batch = new Batch();

  /** @internal */
  constructor(private readonly link: Link) {}

  /** The host's time, milliseconds since 1970. Moves only between two steps of a call. */
  get now(): number {
    return this.link.shared.now;
  }

  /** The public address of this instance's webhook; absent when the operator has not set the host's. */
  get webhookUrl(): string | undefined {
    return this.link.shared.webhookUrl;
  }

  /** Makes an HTTP call. An answer of any status is an answer; none throws `HttpFailed`. */
  async http(http: wire.HttpCall): Promise<HttpResponse> {
    let answer: Answer;
    try {
      answer = await this.link.ask({ http: { http } });
    } catch (error) {
      throw error instanceof HostError ? new HttpFailed(error.message, false) : error;
    }
    const { kind, said, tails } = answer;
    if (kind === "httpFailed") throw new HttpFailed(said.failure.message, said.failure.sent, said.failure.timedOut ?? false);
    if (kind !== "http") throw new HttpFailed(unexpected(kind).message, true);
    let body: Uint8Array | undefined;
    try {
      body = tails.nextBytes();
    } catch {
      // An empty one.
    }
    return new HttpResponse(said.response.status, said.response.headers, body);
  }

  /** Reads an entry of the key-value store: what this call wrote, or else what is stored. */
  async get(key: string): Promise<Uint8Array | undefined> {
    if (this.batch.writes.has(key)) return this.batch.writes.get(key);
    const { kind, said, tails } = await this.link.ask({ kvGet: { key } });
    if (kind !== "kvValue") throw unexpected(kind);
    return said.found ? bytesOf(tails) : undefined;
  }

  /** Reads an entry that is words. */
  async getText(key: string, otherwise = ""): Promise<string> {
    const value = await this.get(key);
    return value === undefined ? otherwise : decodeUtf8(value);
  }

  /**
   * Lists entries whose keys begin with `prefix` and come behind `after`, in order, at most `limit` (and 1,000): what is
   * stored, with what this call wrote.
   */
  async scan(prefix: string, after?: string, limit = MOST_ENTRIES): Promise<Array<[key: string, value: Uint8Array]>> {
    const isBehind = (key: string) => after === undefined || compare(key, after) > 0;
    const written = this.batch.sorted().filter(([key]) => key.startsWith(prefix) && isBehind(key));
    const wanted = Math.max(1, Math.min(whole(limit) + written.length, MOST_ENTRIES));
    limit = Math.min(whole(limit), MOST_ENTRIES);
    const stored = new Map<string, Uint8Array>();
    let behind = after;
    for (;;) {
      const page = await this.storedEntries(prefix, behind, wanted);
      if (written.length === 0) return page.slice(0, limit);
      const complete = page.length < wanted;
      if (page.length > 0) behind = page[page.length - 1]![0];
      for (const [key, value] of page) stored.set(key, value);
      // Behind the last stored entry that was read, others may lie between what was written.
      const entries = new Map(stored);
      for (const [key, value] of written) {
        if (!complete && (behind === undefined || compare(key, behind) > 0)) continue;
        if (value === undefined) entries.delete(key);
        else entries.set(key, value);
      }
      if (complete || entries.size >= limit) {
        return Array.from(entries).sort(([one], [other]) => compare(one, other)).slice(0, limit);
      }
    }
  }

  private async storedEntries(prefix: string, after: string | undefined, limit: number): Promise<Array<[string, Uint8Array]>> {
    const request = after === undefined ? { prefix, limit } : { prefix, after, limit };
    const { kind, said, tails } = await this.link.ask({ kvScan: request });
    if (kind !== "kvEntries") throw unexpected(kind);
    return (said.keys as string[]).map((key) => [key, bytesOf(tails)]);
  }

  /** Hands an event over, to be stored when the call ends well. */
  emit(event: wire.Event): void {
    if (!Number.isSafeInteger(event.at)) throw new TypeError("the time of an event is whole milliseconds since 1970");
    this.batch.events.push(toJson(event));
  }

  /** Writes an entry of this instance's key-value store when the call ends well; later reads in the same call see it. */
  set(key: string, value: Uint8Array | string): void {
    this.batch.writes.set(String(key), typeof value === "string" ? encodeUtf8(value) : Uint8Array.from(value));
  }

  /** Takes an entry away when the call ends well. */
  delete(key: string): void {
    this.batch.writes.set(String(key), undefined);
  }

  /**
   * Calls the channel with a timer event after a while, once, when the call ends well. The same tag again moves it. Timers
   * are lost when the instance ends: keep what must not be lost in the key-value store.
   */
  setTimer(tag: string, afterMs: number): void {
    this.batch.timers.push({ tag, afterMs: whole(afterMs) });
  }

  /** Takes a timer back. */
  cancelTimer(tag: string): void {
    this.batch.timers.push({ tag });
  }

  /** Writes a text frame to a WebSocket of the ingress when the call ends well; dropped when it is not open then. */
  socketSend(text: string, tag = ""): void {
    this.batch.sockets.push({ tag, send: [text] });
  }

  /**
   * Closes a WebSocket of the ingress when the call ends well. The host tells that it closed, and opens it again: at `url`
   * where that is given, and after `reopenAfterMs` instead of its own backoff.
   */
  socketClose(code: number, tag = "", then: { url?: string; reopenAfterMs?: number } = {}): void {
    this.batch.sockets.push({ tag, close: code, ...then });
  }

  /** Hands a file to the host's media store; gives its handle, the blob. */
  async mediaPut(file: Uint8Array, mimeType?: string, fileName?: string): Promise<wire.BlobId> {
    const request: { mimeType?: string; fileName?: string } = {};
    if (mimeType !== undefined) request.mimeType = mimeType;
    if (fileName !== undefined) request.fileName = fileName;
    const { kind, said } = await this.link.ask({ mediaPut: request }, [file]);
    if (kind !== "media") throw unexpected(kind);
    return said.blob;
  }

  /**
   * Reads a piece of a file that the host holds, and the size of the whole. An HTTP call need not: it names the blob, and
   * the host streams it.
   */
  async mediaGet(blob: wire.BlobId, offset: number, limit: number): Promise<{ bytes: Uint8Array; size: number }> {
    const { kind, said, tails } = await this.link.ask({ mediaGet: { blob, offset, limit } });
    if (kind !== "mediaBytes") throw unexpected(kind);
    return { bytes: bytesOf(tails), size: said.size };
  }

  /** Random bytes, good enough for keys; at most 1,024. */
  async random(bytes: number): Promise<Uint8Array> {
    const { kind, tails } = await this.link.ask({ random: { bytes } });
    if (kind !== "random") throw unexpected(kind);
    return bytesOf(tails);
  }

  /** Reports what the connection is from now on. */
  state(state: wire.ConnectionState): void {
    this.link.shared.deliver(encode(toJson({ state: { state } })));
  }

  /** Writes to the host's log: a sentence without secrets, message texts and phone numbers. */
  log(level: wire.LogLevel, message: string): void {
    this.link.shared.log(level, message);
  }
}
