// Small constructors for what most channels say. Whatever they do not know is said by spreading them into more.

import type * as wire from "./wire";

/** A conversation, of which id, kind and perhaps its title are known. */
export function chat(id: string, kind: wire.ChatKind = "direct", name?: string): wire.Chat {
  return name === undefined ? { id, kind } : { id, kind, name };
}

/** An account, of which the id and perhaps a name is known. */
export function user(id: string, name?: string): wire.User {
  return name === undefined ? { id } : { id, name };
}

/** Plain words, as the content of a message. */
export function text(words: string): wire.Content {
  return { type: "text", text: words };
}

/** Somebody wrote: the body of an event. */
export function message(id: string, sender: wire.User | wire.Sender, content: wire.Content, replyTo?: string): wire.EventBody {
  return replyTo === undefined
    ? { type: "message", id, sender, content }
    : { type: "message", id, sender, content, replyTo: { id: replyTo } };
}

/**
 * One thing that happened, at a time by the network's clock in milliseconds since 1970. The delivery key is what the network
 * would repeat: the host drops a second event with the same one.
 */
export function event(chat: wire.Chat | undefined, at: number, body: wire.EventBody, deliveryKey?: string): wire.Event {
  const made: wire.Event = { at: Math.trunc(at), body };
  if (chat !== undefined) made.chat = chat;
  if (deliveryKey !== undefined) made.deliveryKey = deliveryKey;
  return made;
}

/** What the network said when it took a message. */
export function receipt(messageId: string | number, at?: number): wire.SendReceipt {
  return at === undefined ? { messageId: String(messageId) } : { messageId: String(messageId), at: Math.trunc(at) };
}

/** Messages flow. */
export function connected(profile?: wire.Profile): wire.ConnectionState {
  return profile === undefined ? { state: "connected" } : { state: "connected", profile };
}

/** The host repeats the call of `nextPoll`. */
export function longPoll(poll: wire.LongPoll = {}): wire.Ingress {
  return { type: "longPoll", ...poll };
}

/** The host holds a WebSocket open. */
export function websocket(socket: wire.Websocket): wire.Ingress {
  return { type: "websocket", ...socket };
}

/** The host takes HTTP requests from the network, and refuses those for which a proof of `verify` does not hold. */
export function webhook(hook: wire.Webhook = {}): wire.Ingress {
  return { type: "webhook", ...hook };
}

/** The host calls at regular times. */
export function timer(tag: string, everyMs: number): wire.Ingress {
  return { type: "timer", tag, everyMs };
}
