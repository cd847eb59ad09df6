// The class that a channel is written as.

import type { Context } from "./context";
import { ChannelError, SendError } from "./errors";
import { HttpResponse, type WebhookRequest } from "./http";
import type * as wire from "./wire";

/** What `start` gives back: the instance, and how events reach it. No way in for a channel that only sends. */
export class Started {
  readonly ingress: wire.Ingress[];

  constructor(
    readonly channel: Channel,
    ...ingress: wire.Ingress[]
  ) {
    this.ingress = ingress;
  }
}

/** What a channel made of one thing that arrived. */
export interface EventOutcome {
  /** What a webhook answers, once the events of the call are durable; 200 with no body when absent. */
  reply?: wire.HttpResponse;
  /** What is written to the socket that the event came from. */
  socketSend?: string[];
  /** Wait this long before the next poll, in milliseconds (the network asked to slow down). */
  pollAfterMs?: number;
}

/** Answers a webhook with a status and a JSON body. */
export function replyJson(status: number, json: unknown): EventOutcome {
  return { reply: new HttpResponse(status, { "content-type": "application/json" }, JSON.stringify(json)) };
}

type WithMethods<E> = E extends { response: wire.HttpResponse }
  ? Omit<E, "response"> & { response: HttpResponse }
  : E extends { request: wire.WebhookRequest }
    ? Omit<E, "request"> & { request: WebhookRequest }
    : E;

/** One thing that arrived. */
export type IngressEvent = WithMethods<wire.IngressEvent>;

/** A class of channels. `start` checks the credentials, loads what is in the key-value store and says how events come in. */
export interface ChannelClass {
  /**
   * Starts an instance. Secrets in `config` are placeholders. Called again after an error with backoff, or not again, as
   * the error's state says.
   */
  start(ctx: Context, config: any): Promise<Started>;
}

/**
 * One running instance of a channel: one account on one network.
 *
 * Write the methods as `async`. All of them are called from one thread at a time, and many may be waiting at once; the host
 * never has two requests of one chat under way. What a channel awaits must come from the `Context` in the end: there are no
 * timers here and no network. A method must not compute for long: past its deadline the host takes the instance for stuck.
 *
 * Events that are emitted and key-value entries that are written in a call are stored together when it resolves, and not at
 * all when it throws. The host may hand over the last batch again after a crash: give events a delivery key.
 *
 * All but the static `start` need not be written: what is asked for then is answered `unsupported`.
 */
export abstract class Channel<Config = unknown> {
  constructor(protected readonly config: Config) {}

  /** Takes one thing that arrived. */
  async onEvent(_ctx: Context, _event: IngressEvent): Promise<EventOutcome | void> {}

  /**
   * Takes several things that arrived, in order, and gives one outcome for each. All of them are stored together; when one
   * fails, the host hands them over one by one.
   */
  async onEvents(ctx: Context, events: IngressEvent[]): Promise<Array<EventOutcome | void>> {
    const outcomes: Array<EventOutcome | void> = [];
    for (const event of events) outcomes.push(await this.onEvent(ctx, event));
    return outcomes;
  }

  /** What to poll next. Called after the start and after each answer, when what that call wrote can be read. */
  async nextPoll(_ctx: Context, tag: string): Promise<wire.HttpCall> {
    throw ChannelError.stopped(`the channel declares a long poll "${tag}" but does not implement nextPoll`);
  }

  /** Makes a move in a login. */
  async login(_ctx: Context, _call: wire.LoginCall): Promise<wire.LoginStep> {
    throw ChannelError.invalid("this channel has no login; its credentials are in its configuration");
  }

  /** Ends the instance: say goodbye to the network if it wants that. Nothing is called afterwards. */
  async stop(_ctx: Context): Promise<void> {}

  /**
   * Sends one message. Resolves only when the network took it; an error whose outcome is not certain is never repeated
   * without asking `reconcile`.
   */
  async send(_ctx: Context, _request: wire.Send): Promise<wire.SendReceipt> {
    throw SendError.unsupported("sending");
  }

  /** Changes a message that we sent. */
  async edit(_ctx: Context, _request: wire.EditMessage): Promise<void> {
    throw SendError.unsupported("edits");
  }

  /** Takes a message back. */
  async delete(_ctx: Context, _request: wire.DeleteMessage): Promise<void> {
    throw SendError.unsupported("taking messages back");
  }

  /** Sets our reactions to a message. */
  async react(_ctx: Context, _request: wire.React): Promise<void> {
    throw SendError.unsupported("reactions");
  }

  /** Shows that somebody is writing. */
  async typing(_ctx: Context, _request: wire.ShowTyping): Promise<void> {
    throw SendError.unsupported("typing notices");
  }

  /** Tells the other side that messages were read. */
  async markRead(_ctx: Context, _request: wire.MarkRead): Promise<void> {
    throw SendError.unsupported("read receipts");
  }

  /** Answers a touched button. */
  async answerButton(_ctx: Context, _request: wire.AnswerButton): Promise<void> {
    throw SendError.unsupported("answers to buttons");
  }

  /** Fetches older messages. */
  async history(_ctx: Context, _request: wire.History): Promise<wire.HistoryPage> {
    throw SendError.unsupported("history");
  }

  /** Lists chats, contacts or members. */
  async directory(_ctx: Context, _request: wire.Directory): Promise<wire.DirectoryPage> {
    throw SendError.unsupported("a directory");
  }

  /** Tells about an account. */
  async profile(_ctx: Context, _request: wire.GetProfile): Promise<wire.ProfileReply> {
    throw SendError.unsupported("profiles");
  }

  /** Changes the own profile. */
  async setProfile(_ctx: Context, _request: wire.SetProfile): Promise<void> {
    throw SendError.unsupported("changing the profile");
  }

  /** Makes or changes a group. */
  async group(_ctx: Context, _request: wire.GroupChange): Promise<wire.GroupReply> {
    throw SendError.unsupported("changing groups");
  }

  /** Changes how the account keeps a chat. */
  async setChat(_ctx: Context, _request: wire.SetChat): Promise<void> {
    throw SendError.unsupported("changing how a chat is kept");
  }

  /** Tells who or what an address is. */
  async resolve(_ctx: Context, _request: wire.Resolve): Promise<wire.AddressReply> {
    throw SendError.unsupported("resolving addresses");
  }

  /** Tells how a file can be had. */
  async fetchMedia(_ctx: Context, _request: wire.FetchMedia): Promise<wire.MediaReply> {
    throw SendError.unsupported("fetching media");
  }

  /** Tells whether a send with an unknown outcome happened. */
  async reconcile(_ctx: Context, _request: wire.Reconcile): Promise<wire.Reconciled> {
    throw SendError.unsupported("reconciling sends");
  }

  /** Tells what can be done in one chat, narrower than the manifest. */
  async capabilities(_ctx: Context, _request: wire.ChatCapabilities): Promise<wire.Capabilities> {
    throw SendError.unsupported("capabilities per chat");
  }

  /** Logs out on the network. Asked for by a person, and when an instance is deleted (then within a few seconds). */
  async logout(_ctx: Context, _request: wire.Nothing): Promise<void> {
    throw SendError.unsupported("logging out");
  }

  /**
   * Takes back what the instance set up on the network so that it calls us: a webhook, a subscription. There are a few
   * seconds for it. The login stays good: the same instance may be connected again.
   */
  async release(_ctx: Context, _request: wire.Nothing): Promise<void> {
    throw SendError.unsupported("taking back what was set up");
  }

  /** Takes over the auth state of another program, writing it as key-value entries. */
  async importAuth(_ctx: Context, _request: wire.ImportAuth): Promise<wire.AuthReport> {
    throw SendError.unsupported("taking over auth state");
  }

  /** Gives the auth state away. */
  async exportAuth(_ctx: Context, _request: wire.Nothing): Promise<wire.AuthExport> {
    throw SendError.unsupported("giving auth state away");
  }
}
