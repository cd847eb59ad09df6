"""What the echo plugin does with a message, in Python, to be measured beside it."""

import omni_channel as omni
from omni_channel import Context, EventOutcome, Started, wire


class Echo(omni.Channel):
    @classmethod
    async def start(cls, ctx: Context, config: dict) -> Started:
        return Started(cls(), omni.webhook())

    async def on_event(self, ctx: Context, event: wire.IngressEvent) -> EventOutcome | None:
        posted = event["request"].json()
        message = omni.message(posted["externalId"], omni.user(posted["from"]), omni.text(posted["text"]))
        key = f"{posted['chatId']} {posted['externalId']}"
        ctx.emit(omni.event(omni.chat(posted["chatId"]), ctx.now, message, delivery_key=key))
        return None


Channel = omni.export(Echo)
