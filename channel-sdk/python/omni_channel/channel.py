"""The class that a channel is written as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import ChannelError, SendError
from .frame import to_json
from .http import HttpResponse

if TYPE_CHECKING:
    from . import wire
    from .context import Context


class Started:
    """What `Channel.start` gives back: the instance, and how events reach it. No way in for a channel that only sends."""

    def __init__(self, channel: Channel, *ingress: wire.Ingress):
        self.channel = channel
        self.ingress = list(ingress)


class EventOutcome:
    """What a channel made of one thing that arrived."""

    def __init__(
        self,
        *,
        reply: HttpResponse | None = None,
        socket_send: list[str] | None = None,
        poll_after_ms: int | None = None,
    ):
        self.reply = reply
        """What a webhook answers, once the events of the call are durable; 200 with no body when absent."""
        self.socket_send = socket_send or []
        """What is written to the socket that the event came from."""
        self.poll_after_ms = poll_after_ms
        """Wait this long before the next poll, in milliseconds (the network asked to slow down)."""

    @classmethod
    def reply_json(cls, status: int, json: Any) -> EventOutcome:
        """Answers a webhook with a status and a JSON body."""
        return cls(reply=HttpResponse(status, {"content-type": "application/json"}, to_json(json)))


class Channel:
    """One running instance of a channel: one account on one network.

    Write the methods as `async def`. All of them are called from one thread at a time, and many may be waiting at once;
    the host never has two requests of one chat under way. Await only what the `Context` gives: there is no event loop
    here. A method must not compute for long: past its deadline the host takes the instance for stuck.

    Events that are emitted and key-value entries that are written in a call are stored together when it returns, and not
    at all when it raises. The host may hand over the last batch again after a crash: give events a delivery key.

    All but `start` need not be written: what is asked for then is answered `unsupported`.
    """

    @classmethod
    async def start(cls, ctx: Context, config: Any) -> Started:
        """Starts an instance: check the credentials, load what is in the key-value store, say how events come in. Secrets
        in `config` are placeholders. Called again after an error with backoff, or not again, as the error's state says."""
        raise NotImplementedError("a channel has to say how it starts")

    async def on_event(self, ctx: Context, event: wire.IngressEvent) -> EventOutcome | None:
        """Takes one thing that arrived."""
        return None

    async def on_events(self, ctx: Context, events: list[wire.IngressEvent]) -> list[EventOutcome | None]:
        """Takes several things that arrived, in order, and gives one outcome for each. All of them are stored together;
        when one fails, the host hands them over one by one."""
        return [await self.on_event(ctx, event) for event in events]

    async def next_poll(self, ctx: Context, tag: str) -> wire.HttpCall:
        """What to poll next. Called after the start and after each answer, when what that call wrote can be read."""
        raise ChannelError.stopped(f'the channel declares a long poll "{tag}" but does not implement next_poll')

    async def login(self, ctx: Context, call: wire.LoginCall) -> wire.LoginStep:
        """Makes a move in a login."""
        raise ChannelError.invalid("this channel has no login; its credentials are in its configuration")

    async def stop(self, ctx: Context) -> None:
        """Ends the instance: say goodbye to the network if it wants that. Nothing is called afterwards."""

    async def send(self, ctx: Context, request: wire.Send) -> wire.SendReceipt:
        """Sends one message. Returns only when the network took it; an error whose outcome is not certain is never
        repeated without asking `reconcile`."""
        raise SendError.unsupported("sending")

    async def edit(self, ctx: Context, request: wire.EditMessage) -> None:
        """Changes a message that we sent."""
        raise SendError.unsupported("edits")

    async def delete(self, ctx: Context, request: wire.DeleteMessage) -> None:
        """Takes a message back."""
        raise SendError.unsupported("taking messages back")

    async def react(self, ctx: Context, request: wire.React) -> None:
        """Sets our reactions to a message."""
        raise SendError.unsupported("reactions")

    async def typing(self, ctx: Context, request: wire.ShowTyping) -> None:
        """Shows that somebody is writing."""
        raise SendError.unsupported("typing notices")

    async def mark_read(self, ctx: Context, request: wire.MarkRead) -> None:
        """Tells the other side that messages were read."""
        raise SendError.unsupported("read receipts")

    async def answer_button(self, ctx: Context, request: wire.AnswerButton) -> None:
        """Answers a touched button."""
        raise SendError.unsupported("answers to buttons")

    async def history(self, ctx: Context, request: wire.History) -> wire.HistoryPage:
        """Fetches older messages."""
        raise SendError.unsupported("history")

    async def directory(self, ctx: Context, request: wire.Directory) -> wire.DirectoryPage:
        """Lists chats, contacts or members."""
        raise SendError.unsupported("a directory")

    async def profile(self, ctx: Context, request: wire.GetProfile) -> wire.ProfileReply:
        """Tells about an account."""
        raise SendError.unsupported("profiles")

    async def set_profile(self, ctx: Context, request: wire.SetProfile) -> None:
        """Changes the own profile."""
        raise SendError.unsupported("changing the profile")

    async def group(self, ctx: Context, request: wire.GroupChange) -> wire.GroupReply:
        """Makes or changes a group."""
        raise SendError.unsupported("changing groups")

    async def set_chat(self, ctx: Context, request: wire.SetChat) -> None:
        """Changes how the account keeps a chat."""
        raise SendError.unsupported("changing how a chat is kept")

    async def resolve(self, ctx: Context, request: wire.Resolve) -> wire.AddressReply:
        """Tells who or what an address is."""
        raise SendError.unsupported("resolving addresses")

    async def fetch_media(self, ctx: Context, request: wire.FetchMedia) -> wire.MediaReply:
        """Tells how a file can be had."""
        raise SendError.unsupported("fetching media")

    async def reconcile(self, ctx: Context, request: wire.Reconcile) -> wire.Reconciled:
        """Tells whether a send with an unknown outcome happened."""
        raise SendError.unsupported("reconciling sends")

    async def capabilities(self, ctx: Context, request: wire.ChatCapabilities) -> wire.Capabilities:
        """Tells what can be done in one chat, narrower than the manifest."""
        raise SendError.unsupported("capabilities per chat")

    async def logout(self, ctx: Context, request: wire.Nothing) -> None:
        """Logs out on the network. Asked for by a person, and when an instance is deleted (then within a few seconds)."""
        raise SendError.unsupported("logging out")

    async def release(self, ctx: Context, request: wire.Nothing) -> None:
        """Takes back what the instance set up on the network so that it calls us: a webhook, a subscription. There are a
        few seconds for it. The login stays good: the same instance may be connected again."""
        raise SendError.unsupported("taking back what was set up")

    async def import_auth(self, ctx: Context, request: wire.ImportAuth) -> wire.AuthReport:
        """Takes over the auth state of another program, writing it as key-value entries."""
        raise SendError.unsupported("taking over auth state")

    async def export_auth(self, ctx: Context, request: wire.Nothing) -> wire.AuthExport:
        """Gives the auth state away."""
        raise SendError.unsupported("giving auth state away")


REQUESTS: Mapping[str, tuple[str, str]] = {
    "send": ("send", "sent"),
    "edit": ("edit", "done"),
    "delete": ("delete", "done"),
    "react": ("react", "done"),
    "typing": ("typing", "done"),
    "markRead": ("mark_read", "done"),
    "answerButton": ("answer_button", "done"),
    "history": ("history", "history"),
    "directory": ("directory", "directory"),
    "profile": ("profile", "profile"),
    "setProfile": ("set_profile", "done"),
    "group": ("group", "group"),
    "setChat": ("set_chat", "done"),
    "resolve": ("resolve", "address"),
    "fetchMedia": ("fetch_media", "media"),
    "reconcile": ("reconcile", "reconciled"),
    "capabilities": ("capabilities", "capabilities"),
    "logout": ("logout", "done"),
    "release": ("release", "done"),
    "importAuth": ("import_auth", "authImported"),
    "exportAuth": ("export_auth", "authExported"),
}
"""Kind of request → the method that answers it, and the kind of its reply."""
