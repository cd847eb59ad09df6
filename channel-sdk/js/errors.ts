// What can go wrong, and who acts next. Throw these; anything else that a channel throws counts as its bug.

import type { ConnectionState, ErrorCode, NextActor, SendError as Said } from "./wire";

/** Why a request failed. Made with the functions, which set who acts next. */
export class SendError extends Error {
  constructor(
    readonly code: ErrorCode,
    readonly next: NextActor,
    message: string,
    readonly more: { retryAfterMs?: number; certain?: boolean } = {},
  ) {
    super(message);
    this.name = "SendError";
  }

  /** The channel cannot do this. */
  static unsupported(what: string): SendError {
    return new SendError("unsupported", "caller", `this channel does not support ${what}`);
  }

  /** The request is wrong; asking again will not help. */
  static invalid(message: string): SendError {
    return new SendError("invalid", "caller", message);
  }

  /** The network asked to wait. */
  static rateLimited(retryAfterMs: number, message: string): SendError {
    return new SendError("rateLimited", "retry", message, { retryAfterMs });
  }

  /** The credentials are no longer good. */
  static unauthorized(message: string): SendError {
    return new SendError("unauthorized", "operator", message);
  }

  /** The network certainly did nothing and may do it later. */
  static transient(message: string): SendError {
    return new SendError("network", "retry", message);
  }

  /** It is not known whether the network did it: the connection broke after the request was written. */
  static uncertain(message: string): SendError {
    return new SendError("unreachable", "retry", message, { certain: false });
  }

  /** A bug of the channel or the host. */
  static internal(message: string): SendError {
    return new SendError("internal", "us", message);
  }

  /** As it crosses. */
  said(): Said {
    const { retryAfterMs, certain = true } = this.more;
    const said: Said = { code: this.code, message: this.message, next: this.next, certain };
    if (retryAfterMs !== undefined) said.retryAfterMs = whole(retryAfterMs);
    return said;
  }
}

/** Why a start, a login or an event failed. */
export class ChannelError extends Error {
  constructor(
    readonly error: SendError,
    /** The connection's state from now on; `disconnected` and tried again when absent. */
    readonly state?: ConnectionState,
  ) {
    super(error.message);
    this.name = "ChannelError";
  }

  /** Something failed that may work later. */
  static transient(message: string): ChannelError {
    return new ChannelError(SendError.transient(message));
  }

  /** The same input will always fail so: the event is no good. The host puts it into the dead letters. */
  static invalid(message: string): ChannelError {
    return new ChannelError(SendError.invalid(message));
  }

  /** Trying again will not help before somebody changes something. */
  static stopped(reason: string): ChannelError {
    const error = new SendError("notConnected", "operator", reason);
    return new ChannelError(error, { state: "disconnected", reason, transient: false });
  }

  /** The network no longer accepts the credentials; `userAction` is the sentence that says what to do. */
  static loggedOut(reason: string, userAction: string): ChannelError {
    return new ChannelError(SendError.unauthorized(reason), { state: "logged_out", reason, userAction });
  }
}

/** A call brought no answer. Left alone, it becomes the right error of the request or the event. */
export class HttpFailed extends Error {
  constructor(
    message: string,
    /** Whether the request may have reached the other side: a send that fails so has an unknown outcome. */
    readonly sent: boolean,
    readonly timedOut = false,
  ) {
    super(message);
    this.name = "HttpFailed";
  }
}

/** A service that the host could not or would not give, in a sentence. */
export class HostError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "HostError";
  }
}

/** The network sent something that is not what it should be. */
export class BadJson extends Error {
  constructor(what: string) {
    super(`the network sent something that is not what it should be: ${what}`);
    this.name = "BadJson";
  }
}

/** What a failed request is reported as; nothing when it is a bug. */
export function asSendError(error: unknown): ChannelError | undefined {
  if (error instanceof ChannelError) return error;
  if (error instanceof SendError) return new ChannelError(error);
  if (error instanceof HttpFailed) {
    return new ChannelError(error.sent ? SendError.uncertain(error.message) : SendError.transient(error.message));
  }
  if (error instanceof HostError) return ChannelError.transient(error.message);
  // An answer came, so the network may have done what it was asked.
  if (error instanceof BadJson) return new ChannelError(SendError.uncertain(error.message));
  return undefined;
}

/** What a failed start, login or event is reported as; nothing when it is a bug. */
export function asChannelError(error: unknown): ChannelError | undefined {
  if (error instanceof HttpFailed) return ChannelError.transient(error.message);
  if (error instanceof BadJson) return ChannelError.invalid(error.message);
  return asSendError(error);
}

/** A number that the host takes: whole, and not below nothing. */
export function whole(number: number): number {
  if (!Number.isFinite(number)) throw new TypeError(`${number} is not a number of milliseconds`);
  return Math.max(0, Math.trunc(number));
}
