// An inbox for whatever can post: messages come in as signed POSTs of JSON, replies go out the same way.

import {
  Channel, chat, connected, type Context, event, type EventOutcome, exportChannel, httpPostJson, type IngressEvent,
  message, type Of, receipt, replyJson, SendError, shape, Started, text, user, webhook, type wire,
} from "../omni-channel/omni-channel";

interface Config {
  secret: string;
  replyUrl: string;
  replyToken?: string;
}

const Letter = shape.object({
  id: shape.string,
  chat: shape.string,
  group: shape.optional(shape.boolean),
  from: shape.string,
  name: shape.optional(shape.string),
  text: shape.string,
  at: shape.integer,
  replyTo: shape.optional(shape.string),
});

const Accepted = shape.object({ id: shape.string });

class Inbox extends Channel<Config> {
  static async start(ctx: Context, config: Config): Promise<Started> {
    ctx.state(connected());
    const signed = { type: "hmacSha256", header: "x-signature", prefix: "sha256=", key: config.secret } as const;
    return new Started(new Inbox(config), webhook({ verify: [signed] }));
  }

  override async onEvent(ctx: Context, arrived: IngressEvent): Promise<EventOutcome | void> {
    if (arrived.type !== "webhook") return;
    if (arrived.request.method !== "POST") return replyJson(405, { error: "messages are posted" });
    let letter: Of<typeof Letter>;
    try {
      letter = arrived.request.json(Letter);
    } catch (error) {
      return replyJson(400, { error: (error as Error).message });
    }
    ctx.emit(received(letter));
    return replyJson(200, { id: letter.id });
  }

  override async send(ctx: Context, send: wire.Send): Promise<wire.SendReceipt> {
    if (send.content.type !== "text") throw SendError.unsupported(send.content.type);
    const json = { chat: send.chat, text: send.content.text, clientId: send.clientId, replyTo: send.replyTo?.id };
    const { replyUrl, replyToken } = this.config;
    const headers = replyToken === undefined ? {} : { authorization: `Bearer ${replyToken}` };
    const response = await ctx.http(httpPostJson(replyUrl, json, headers));
    if (response.isSuccess) return receipt(response.json(Accepted).id);
    switch (response.status) {
      case 401:
      case 403:
        throw SendError.unauthorized("the other side refuses the token");
      case 429:
        throw SendError.rateLimited(1_000 * (Number(response.header("retry-after")) || 1), "the other side asks to wait");
    }
    if (response.status < 500) throw SendError.invalid(`the other side refused it with ${response.status}`);
    throw SendError.uncertain(`the other side answered ${response.status}`);
  }
}

function received(letter: Of<typeof Letter>): wire.Event {
  const where = chat(letter.chat, letter.group ? "group" : "direct");
  const said = message(letter.id, user(letter.from, letter.name), text(letter.text), letter.replyTo);
  return event(where, letter.at, said, letter.id);
}

export const channel = exportChannel(Inbox);
