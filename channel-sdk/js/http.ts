// HTTP as data: what a channel asks the host to fetch, and what comes back.

import { BadJson } from "./errors";
import { parseJson } from "./json";
import { fit, type Shape } from "./shape";
import { decodeUtf8, encodeUtf8 } from "./utf8";
import type * as wire from "./wire";

export type Headers = { [name: string]: string } | wire.Header[];

abstract class Body {
  abstract readonly headers: wire.Header[];
  abstract readonly body: Uint8Array;

  /** The first header of a name, in any case. */
  header(name: string): string | undefined {
    name = name.toLowerCase();
    return this.headers.find((header) => header.name.toLowerCase() === name)?.value;
  }

  /** The body as words; what is not UTF-8 is replaced. */
  text(): string {
    return decodeUtf8(this.body);
  }

  /** The body as JSON, of this shape. Throws `BadJson` when it is something else. */
  json(): any;
  json<T>(of: Shape<T>): T;
  json<T>(of?: Shape<T>): T {
    const text = decodeUtf8(this.body, true);
    if (text === undefined) throw new BadJson("it is not UTF-8");
    let value: unknown;
    try {
      value = parseJson(text);
    } catch (error) {
      throw new BadJson(error instanceof Error ? error.message : String(error));
    }
    return of ? fit(value, of) : (value as T);
  }
}

/** An answer, of any status; or what a webhook answers. */
export class HttpResponse extends Body implements wire.HttpResponse {
  readonly headers: wire.Header[];
  readonly body: Uint8Array;

  constructor(
    readonly status: number,
    headers: Headers = [],
    body: Uint8Array | string = "",
  ) {
    super();
    this.headers = headerList(headers);
    this.body = typeof body === "string" ? encodeUtf8(body) : body;
  }

  /** Whether the status is 2xx. */
  get isSuccess(): boolean {
    return this.status >= 200 && this.status < 300;
  }
}

/** A request that the network made. */
export class WebhookRequest extends Body implements wire.WebhookRequest {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: wire.Header[];

  constructor(
    said: Omit<wire.WebhookRequest, "body">,
    readonly body: Uint8Array,
  ) {
    super();
    this.method = said.method;
    this.path = said.path;
    this.query = said.query ?? "";
    this.headers = said.headers ?? [];
  }
}

function headerList(headers: Headers): wire.Header[] {
  return Array.isArray(headers) ? headers : Object.keys(headers).map((name) => ({ name, value: headers[name]! }));
}

type More = Omit<wire.HttpCall, "method" | "url" | "headers" | "body">;

/**
 * A call that the host makes for a channel. Where the URL or a header holds a secret's placeholder, the host puts the
 * secret in; in a JSON or form body only with `secretsInBody`.
 */
export function httpCall(method: string, url: string, headers: Headers, body: wire.HttpBody, more: More = {}): wire.HttpCall {
  return { method, url, headers: headerList(headers), body, ...more };
}

/** A `GET`. */
export function httpGet(url: string, headers: Headers = {}, more?: More): wire.HttpCall {
  return httpCall("GET", url, headers, { type: "empty" }, more);
}

/** A `POST` of a JSON value. */
export function httpPostJson(url: string, json: unknown, headers: Headers = {}, more?: More): wire.HttpCall {
  return httpCall("POST", url, headers, { type: "json", json }, more);
}

/** A `POST` of form parts; files among them are streamed by the host. */
export function httpPostMultipart(url: string, parts: wire.FormPart[], headers: Headers = {}, more?: More): wire.HttpCall {
  return httpCall("POST", url, headers, { type: "multipart", parts }, more);
}
