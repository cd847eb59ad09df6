// Runs one instance of a channel: reads frames, keeps the calls that are under way, writes frames.
//
// There is no event loop here. A call is an async function that goes on when a frame for it comes in; what it awaits is an
// answer of the host. Whatever happens in it, it ends in one `done`: the host waits for that.

import { type Channel, type ChannelClass, type EventOutcome, type IngressEvent, Started } from "./channel";
import { Context, Link, Shared } from "./context";
import { asChannelError, asSendError, type ChannelError, SendError, whole } from "./errors";
import { decode, encode, FrameError, has, oneOf, type Tails, toJson } from "./frame";
import { HttpResponse, WebhookRequest } from "./http";
import { drain, onUnhandled } from "./promise";
import type * as wire from "./wire";

/** What a call gives back; the bodies of webhook answers lie apart. */
type Ended = { output: wire.Output; bodies: Uint8Array[] };

/** Kind of request → the kind of its reply; the method has the name of the request. */
const REPLIES = {
  send: "sent",
  edit: "done",
  delete: "done",
  react: "done",
  typing: "done",
  markRead: "done",
  answerButton: "done",
  history: "history",
  directory: "directory",
  profile: "profile",
  setProfile: "done",
  group: "group",
  setChat: "done",
  resolve: "address",
  fetchMedia: "media",
  reconcile: "reconciled",
  capabilities: "capabilities",
  logout: "done",
  release: "done",
  importAuth: "authImported",
  exportAuth: "authExported",
} as const satisfies Record<wire.Request["type"], wire.Reply["type"]>;

/** One instance of a channel at its end of the boundary. */
export class Driver {
  private readonly shared: Shared;
  /** Set when the start ended well, taken away by the stop. */
  private channel: Channel | undefined;
  private started = false;
  private readonly calls = new Map<number, Link>();

  constructor(
    private readonly type: ChannelClass,
    deliver: (frame: Uint8Array) => boolean,
  ) {
    this.shared = new Shared(deliver);
  }

  /** The host's time, milliseconds since 1970. */
  get now(): number {
    return this.shared.now;
  }

  /** Handles one frame; throws `FrameError` when the bytes are none. */
  deliver(frame: Uint8Array): void {
    onUnhandled((reason) => this.shared.log("warn", `nobody waits for what failed: ${words(reason)}`));
    this.handle(frame);
    drain();
    this.endStuckCalls();
  }

  private handle(frame: Uint8Array): void {
    const { text, kind, said, tails } = decode(frame);
    switch (kind) {
      case "begin": {
        has(said, { call: "number", now: "number" });
        const [op, about] = oneOf(said.op);
        const taken = take(op, about, tails);
        this.shared.now = said.now;
        this.begin(said.call, op, taken);
        break;
      }
      case "answer": {
        has(said, { call: "number", id: "number", now: "number" });
        const [answer, about] = oneOf(said.answer);
        this.shared.now = said.now;
        this.calls.get(said.call)?.answer(said.id, answer, about, tails);
        break;
      }
      case "poll":
        has(said, { call: "number", now: "number" });
        this.shared.now = said.now;
        break;
      case "cancel":
        has(said, { call: "number" });
        this.calls.get(said.call)?.close();
        this.calls.delete(said.call);
        break;
      case "ping":
        has(said, { nonce: "number" });
        // As it is written: it may be larger than a number here can say exactly.
        this.shared.deliver(encode(`{"pong":{"nonce":${/"nonce"\s*:\s*(\d+)/.exec(text)?.[1] ?? said.nonce}}}`));
        break;
      // A kind that this version does not know is skipped.
    }
  }

  private begin(call: number, op: string, about: any): void {
    const link = new Link(call, this.shared);
    const ctx = new Context(link);
    const firstStart = !this.started;
    if (op === "start") {
      this.started = true;
      this.shared.webhookUrl ??= about.webhookUrl ?? undefined;
    }
    this.calls.set(call, link);
    this.run(ctx, op, about, firstStart).then(
      (ended) => this.end(call, link, () => this.done(call, ended, ctx)),
      (error) => this.end(call, link, () => this.fail(call, error, op === "request" ? asSendError : asChannelError)),
    );
  }

  /** Reports the end of a call, unless it was given up. */
  private end(call: number, link: Link, report: () => void): void {
    if (this.calls.get(call) !== link) return;
    this.calls.delete(call);
    report();
    link.close();
  }

  private done(call: number, { output, bodies }: Ended, ctx: Context): void {
    let frame: Uint8Array;
    try {
      const { json, tails } = ctx.batch.commit();
      frame = encode(`{"done":{"call":${call},"result":{"ok":${toJson(output)}},"commit":${json}}}`, [...tails, ...bodies]);
    } catch (error) {
      const message = `what the channel gives cannot be written as JSON: ${words(error)}`;
      this.failed(call, { error: new SendError("internal", "us", message, { certain: false }).said(), panicked: false });
      return;
    }
    this.shared.deliver(frame);
  }

  private fail(call: number, error: unknown, reportedAs: (error: unknown) => ChannelError | undefined): void {
    try {
      const reported = reportedAs(error);
      if (reported) {
        const failure: wire.Failure = { error: reported.error.said(), panicked: false };
        if (reported.state !== undefined) failure.state = reported.state;
        this.failed(call, failure);
        return;
      }
    } catch (worse) {
      error = worse;
    }
    const message = `the channel threw ${words(error)}`;
    const where = error instanceof Error && error.stack ? `\n${error.stack}` : "";
    this.shared.log("error", message + where);
    this.failed(call, { error: new SendError("internal", "us", message, { certain: false }).said(), panicked: true });
  }

  private failed(call: number, failure: wire.Failure): void {
    this.shared.deliver(encode(toJson({ done: { call, result: { err: failure }, commit: {} } })));
  }

  /** When nobody waits for the host, nothing will make any call go on. */
  private endStuckCalls(): void {
    for (const link of this.calls.values()) {
      if (link.waiting.size > 0) return;
    }
    for (const [call, link] of Array.from(this.calls)) {
      const error = new Error("it awaits something that never comes: await only what the Context gives");
      this.end(call, link, () => this.fail(call, error, () => undefined));
    }
  }

  private async run(ctx: Context, op: string, about: any, firstStart: boolean): Promise<Ended> {
    if (op === "start") {
      if (!firstStart) throw SendError.internal("the instance was already started");
      return this.start(ctx, about.config);
    }
    const channel = this.channel;
    if (channel === undefined) throw SendError.transient("the instance is not running");
    switch (op) {
      case "events":
        return runEvents(ctx, channel, about);
      case "request":
        return { output: { reply: { reply: await runRequest(ctx, channel, about) } }, bodies: [] };
      case "login":
        return { output: { login: { step: told(await channel.login(ctx, about), "login") } }, bodies: [] };
      case "stop":
        await channel.stop(ctx);
        this.channel = undefined;
        return { output: { stopped: {} }, bodies: [] };
      default:
        throw SendError.unsupported(op);
    }
  }

  private async start(ctx: Context, config: unknown): Promise<Ended> {
    const started = await this.type.start(ctx, config);
    if (!(started instanceof Started)) throw new TypeError("start did not give what it should: a Started");
    const polls: wire.NextPoll[] = [];
    for (const ingress of started.ingress) {
      if (ingress.type === "longPoll") {
        const tag = ingress.tag ?? "";
        polls.push({ tag, call: told(await started.channel.nextPoll(ctx, tag), "nextPoll") });
      }
    }
    this.channel = started.channel;
    return { output: { started: { ingress: started.ingress, polls } }, bodies: [] };
  }
}

/** What a call is about, with the raw bytes that lie beside it. */
function take(op: string, about: any, tails: Tails): any {
  switch (op) {
    case "start":
      has(about, { instance: "string" });
      return about;
    case "events":
      has(about, { events: "list" });
      return about.events.map((event: unknown) => withBytes(event, tails));
    case "request":
      has(about, { request: "object" });
      has(about.request, { type: "string" });
      return about.request;
    case "login":
      has(about, { login: "object" });
      return about.login;
    default:
      return about;
  }
}

function withBytes(event: any, tails: Tails): IngressEvent {
  has(event, { type: "string" });
  switch (event.type) {
    case "pollResponse": {
      has(event, { tag: "string", response: "object" });
      has(event.response, { status: "number" });
      const { status, headers } = event.response;
      return { ...event, response: new HttpResponse(status, headers, tails.nextBytes()) };
    }
    case "pollFailed":
      has(event, { tag: "string" });
      return event;
    case "webhook":
      has(event, { request: "object" });
      has(event.request, { method: "string", path: "string" });
      return { ...event, request: new WebhookRequest(event.request, tails.nextBytes()) };
    case "socketBinary":
      return { ...event, bytes: tails.nextBytes() };
    default:
      return event;
  }
}

async function runEvents(ctx: Context, channel: Channel, events: IngressEvent[]): Promise<Ended> {
  const tags: string[] = [];
  for (const event of events) {
    if ((event.type === "pollResponse" || event.type === "pollFailed") && !tags.includes(event.tag)) tags.push(event.tag);
  }
  const expected = events.length;
  const outcomes = await channel.onEvents(ctx, events);
  if (outcomes.length !== expected) {
    throw SendError.internal(`onEvents took ${expected} events and gave ${outcomes.length} outcomes`);
  }
  const polls: wire.NextPoll[] = [];
  for (const tag of tags) polls.push({ tag, call: told(await channel.nextPoll(ctx, tag), "nextPoll") });
  const bodies: Uint8Array[] = [];
  const heads = outcomes.map((outcome) => head(outcome ?? {}, bodies));
  return { output: { events: { outcomes: heads, polls } }, bodies };
}

function head({ reply, socketSend, pollAfterMs }: EventOutcome, bodies: Uint8Array[]): wire.OutcomeHead {
  const head: Record<string, unknown> = {};
  if (reply) {
    head.reply = { status: reply.status, headers: reply.headers ?? [] };
    bodies.push(reply.body);
  }
  if (socketSend && socketSend.length > 0) head.socketSend = socketSend;
  if (pollAfterMs !== undefined) head.pollAfterMs = whole(pollAfterMs);
  return head;
}

async function runRequest(ctx: Context, channel: Channel, request: wire.Request): Promise<wire.Reply> {
  if (!Object.prototype.hasOwnProperty.call(REPLIES, request.type)) throw SendError.unsupported(request.type);
  const type = REPLIES[request.type];
  const answer: unknown = await (channel as any)[request.type](ctx, request);
  return (type === "done" ? { type } : { type, ...told(answer, request.type) }) as wire.Reply;
}

function told<T>(answer: T, method: string): T & object {
  if (typeof answer !== "object" || answer === null) throw new TypeError(`${method} did not give what it should`);
  return answer;
}

function words(error: unknown): string {
  try {
    return String(error);
  } catch {
    return "something that has no words";
  }
}

export { FrameError };
