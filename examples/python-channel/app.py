"""A mailbox over plain HTTP: every now and then `GET /mail?after=CURSOR` says what is new, page by page."""

from typing import NotRequired, TypedDict
from urllib.parse import quote

import omni_channel as omni
from omni_channel import ChannelError, Context, EventOutcome, HttpResponse, SendError, Started, wire

PAGES_AT_ONCE = 10
MINUTE = 60_000


class Config(TypedDict):
    url: str
    token: str
    everySeconds: int


# What the server says. `response.json(Page)` lets nothing else through.
Mail = TypedDict(
    "Mail",
    {"id": str, "from": str, "name": NotRequired[str], "subject": str, "body": str, "at": int, "inReplyTo": NotRequired[str]},
)


class Page(TypedDict):
    mails: list[Mail]
    cursor: str
    more: bool


class Accepted(TypedDict):
    id: str


def retry_after_ms(response: HttpResponse) -> int:
    seconds = response.header("retry-after") or ""
    return int(seconds) * 1000 if seconds.isascii() and seconds.isdigit() and len(seconds) < 6 else MINUTE


class Mailbox(omni.Channel):
    def __init__(self, config: Config):
        self.url = config["url"]
        self.headers = {"authorization": f"Bearer {config['token']}"}

    @classmethod
    async def start(cls, ctx: Context, config: Config) -> Started:
        ctx.state(omni.connected())
        return Started(cls(config), omni.timer("look", config["everySeconds"] * 1000))

    async def on_event(self, ctx: Context, event: wire.IngressEvent) -> EventOutcome | None:
        if event["type"] != "timer" or ctx.now < int(await ctx.get_text("notBefore", "0")):
            return None
        cursor = await ctx.get_text("cursor")
        for _ in range(PAGES_AT_ONCE):
            response = await ctx.http(omni.http_get(f"{self.url}/mail?after={quote(cursor, safe='')}", self.headers))
            match response.status:
                case 200:
                    page = response.json(Page)
                case 401:
                    raise ChannelError.logged_out(
                        "the server refuses the token", "put a new token into the configuration"
                    )
                case 429:
                    # What was read before stays read, and nobody asks before it is time.
                    ctx.set("notBefore", str(ctx.now + retry_after_ms(response)))
                    return None
                case status:
                    raise ChannelError.transient(f"the server answered {status}")
            for mail in page["mails"]:
                ctx.emit(received(mail))
            cursor = page["cursor"]
            ctx.set("cursor", cursor)
            if not page["more"]:
                return None
        ctx.set_timer("more", 0)
        return None

    async def send(self, ctx: Context, request: wire.Send) -> wire.SendReceipt:
        content = request["content"]
        if content["type"] != "text":
            raise SendError.unsupported(content["type"])
        mail = {"to": request["chat"], "body": content["text"], "clientId": request["clientId"]}
        if reply_to := request.get("replyTo"):
            mail["inReplyTo"] = reply_to["id"]
        response = await ctx.http(omni.http_post_json(f"{self.url}/mail", mail, self.headers))
        match response.status:
            case 200:
                return omni.receipt(response.json(Accepted)["id"])
            case 401:
                raise SendError.unauthorized("the server refuses the token")
            case 429:
                raise SendError.rate_limited(retry_after_ms(response), "the server asks to wait")
            case status if 400 <= status < 500:
                raise SendError.invalid(f"the server refused it with {status}")
            case status:
                raise SendError.uncertain(f"the server answered {status}")


def received(mail: Mail) -> wire.Event:
    sender = omni.user(mail["from"], mail.get("name"))
    words = f"{mail['subject']}\n\n{mail['body']}" if mail["subject"] else mail["body"]
    message = omni.message(mail["id"], sender, omni.text(words), reply_to=mail.get("inReplyTo"))
    return omni.event(omni.chat(mail["from"], name=mail.get("name")), mail["at"], message, delivery_key=mail["id"])


Channel = omni.export(Mailbox)
