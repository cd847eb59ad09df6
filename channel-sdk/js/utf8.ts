// UTF-8 by hand: there is no TextEncoder in a component.

const CHUNK = 4096;
const REPLACEMENT = 0xfffd;

/** Words as bytes; half of a surrogate pair is replaced. */
export function encodeUtf8(text: string): Uint8Array {
  const length = text.length;
  let bytes = new Uint8Array(length);
  let at = 0;
  let i = 0;
  // Most of what crosses is ASCII.
  for (; i < length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 0x7f) break;
    bytes[at++] = unit;
  }
  if (i === length) return bytes;
  const start = bytes;
  bytes = new Uint8Array(at + (length - i) * 3);
  bytes.set(start.subarray(0, at));
  for (; i < length; i++) {
    let code = text.charCodeAt(i);
    if (code >= 0xd800 && code <= 0xdfff) {
      const low = i + 1 < length ? text.charCodeAt(i + 1) : 0;
      if (code <= 0xdbff && low >= 0xdc00 && low <= 0xdfff) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        i++;
      } else {
        code = REPLACEMENT;
      }
    }
    if (code < 0x80) {
      bytes[at++] = code;
    } else if (code < 0x800) {
      bytes[at++] = 0xc0 | (code >> 6);
      bytes[at++] = 0x80 | (code & 0x3f);
    } else if (code < 0x10000) {
      bytes[at++] = 0xe0 | (code >> 12);
      bytes[at++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[at++] = 0x80 | (code & 0x3f);
    } else {
      bytes[at++] = 0xf0 | (code >> 18);
      bytes[at++] = 0x80 | ((code >> 12) & 0x3f);
      bytes[at++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[at++] = 0x80 | (code & 0x3f);
    }
  }
  return bytes.subarray(0, at);
}

/** Bytes as words. What is not UTF-8 is replaced, as TextDecoder does; `undefined` where that is not wanted. */
export function decodeUtf8(bytes: Uint8Array): string;
export function decodeUtf8(bytes: Uint8Array, strict: true): string | undefined;
export function decodeUtf8(bytes: Uint8Array, strict = false): string | undefined {
  const length = bytes.length;
  let text = "";
  let at = 0;
  while (at < length) {
    let end = at;
    const most = Math.min(length, at + CHUNK);
    while (end < most && bytes[end]! < 0x80) end++;
    if (end > at) {
      text += String.fromCharCode.apply(null, bytes.subarray(at, end) as unknown as number[]);
      at = end;
      continue;
    }
    const units: number[] = [];
    while (at < length && units.length < CHUNK && (bytes[at]! >= 0x80 || units.length < 64)) {
      const first = bytes[at++]!;
      if (first < 0x80) {
        units.push(first);
        continue;
      }
      // How many bytes follow, and what the next one may be: no overlong forms, no surrogates, nothing above U+10FFFF.
      const more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
      let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
      let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
      let code = more === 1 ? first & 0x1f : more === 2 ? first & 0x0f : first & 0x07;
      let left = more;
      while (left > 0 && at < length && bytes[at]! >= low && bytes[at]! <= high) {
        code = (code << 6) | (bytes[at++]! & 0x3f);
        low = 0x80;
        high = 0xbf;
        left--;
      }
      if (more === 0 || left > 0) {
        if (strict) return undefined;
        units.push(REPLACEMENT);
      } else if (code < 0x10000) {
        units.push(code);
      } else {
        units.push(0xd800 + ((code - 0x10000) >> 10), 0xdc00 + ((code - 0x10000) & 0x3ff));
      }
    }
    text += String.fromCharCode.apply(null, units);
  }
  return text;
}
