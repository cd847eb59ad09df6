// What the echo plugin does with a message, in TypeScript, to be measured beside it.

import {
  Channel, chat, type Context, event, type EventOutcome, exportChannel, type IngressEvent, message, Started, text, user,
  webhook,
} from "../omni-channel/omni-channel";

class Echo extends Channel<object> {
  static async start(_: Context, config: object): Promise<Started> {
    return new Started(new Echo(config), webhook());
  }

  override async onEvent(ctx: Context, arrived: IngressEvent): Promise<EventOutcome | void> {
    if (arrived.type !== "webhook") return;
    const posted = arrived.request.json();
    const said = message(posted.externalId, user(posted.from), text(posted.text));
    ctx.emit(event(chat(posted.chatId), ctx.now, said, `${posted.chatId} ${posted.externalId}`));
  }
}

export const channel = exportChannel(Echo);
