// The bytes that cross the boundary: a JSON head and raw byte strings beside it,
// `u32 length ‖ JSON ‖ (u32 length ‖ bytes)*`, little-endian.

import { decodeUtf8, encodeUtf8 } from "./utf8";

/** Why bytes are no frame. */
export class FrameError extends Error {}

/** JSON that every reader takes: no half of a surrogate pair. */
export function toJson(value: unknown): string {
  const text = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`${typeof value} cannot be written as JSON`);
  // What stands behind a backslash is kept, so that only an escape is taken for one.
  return text.indexOf("\\ud") < 0 ? text : text.replace(/\\(?:ud[89a-f][0-9a-f]{2}|.)/g, (escape) => (escape.length > 2 ? "\\ufffd" : escape));
}

/** Writes a frame, whose head is JSON already. */
export function encode(head: string, tails: Uint8Array[] = []): Uint8Array {
  const parts = [encodeUtf8(head), ...tails];
  const frame = new Uint8Array(parts.reduce((length, part) => length + 4 + part.length, 0));
  let at = 0;
  for (const part of parts) {
    for (let shift = 0; shift < 32; shift += 8) frame[at++] = part.length >>> shift;
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

/** A frame taken apart: the text of its head, what that says, and the byte strings. */
export function decode(frame: Uint8Array): { text: string; kind: string; said: any; tails: Tails } {
  const parts: Uint8Array[] = [];
  let at = 0;
  do {
    const start = at + 4;
    if (frame.length < start) throw new FrameError(`frame is truncated: 4 bytes needed, ${frame.length - at} there`);
    const length = (frame[at]! | (frame[at + 1]! << 8) | (frame[at + 2]! << 16) | (frame[at + 3]! << 24)) >>> 0;
    at = start + length;
    if (frame.length < at) {
      throw new FrameError(`frame is truncated: ${length} bytes needed, ${frame.length - start} there`);
    }
    parts.push(frame.subarray(start, at));
  } while (at < frame.length);
  const text = decodeUtf8(parts[0]!, true);
  if (text === undefined) throw unfit("it is not UTF-8");
  let head: unknown;
  try {
    head = JSON.parse(text);
  } catch (error) {
    throw unfit(error instanceof Error ? error.message : String(error));
  }
  const [kind, said] = oneOf(head);
  return { text, kind, said, tails: new Tails(parts.slice(1)) };
}

function unfit(why: string): FrameError {
  return new FrameError(`frame head is not what it should be: ${why}`);
}

/** Takes `{"kind": {…}}` apart. */
export function oneOf(value: unknown): [string, any] {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const kinds = Object.keys(value);
    if (kinds.length === 1) return [kinds[0]!, (value as Record<string, unknown>)[kinds[0]!]];
  }
  throw unfit("an object with one kind was expected");
}

/** Sees that fields are there and of the type that is said. */
export function has(said: any, fields: Record<string, "number" | "string" | "object" | "list">): void {
  for (const name of Object.keys(fields)) {
    const value = typeof said === "object" && said !== null ? said[name] : undefined;
    const kind = Array.isArray(value) ? "list" : value === null ? "null" : typeof value;
    if (kind !== fields[name]) throw unfit(`no ${fields[name]} \`${name}\``);
  }
}

/** The byte strings of a frame, taken in order. */
export class Tails {
  private next = 0;

  constructor(private readonly tails: Uint8Array[]) {}

  nextBytes(): Uint8Array {
    const bytes = this.tails[this.next++];
    if (bytes === undefined) throw new FrameError("frame speaks of a byte string that is not there");
    return bytes;
  }
}
