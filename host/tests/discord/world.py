"""The state of the loopback Discord: simcord's model on the real clock, with the behaviours that simcord lacks.

Added here: Discord's nonce rule, a normal bot role, threads as Discord opens them (same id as their first message, the
starter message, no notice in the parent channel), the message that ends a poll, and the revision of archived threads.

It knows nothing of HTTP or of the gateway: whoever subscribes gets events as they happen.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import discord
from simcord._clock import Clock
from simcord.backend import Backend, serializers
from simcord.backend.models import Channel, Guild, Message, Overwrite, Role, User
from simcord.enums import MessageType, OverwriteType

import payloads
from cdn import Cdn

NONCE_SECONDS = 300.0
BOT_PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    send_polls=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
    add_reactions=True,
    external_emojis=True,
    external_stickers=True,
    manage_messages=True,
    create_public_threads=True,
    create_private_threads=True,
    manage_threads=True,
    manage_webhooks=True,
    create_instant_invite=True,
    use_application_commands=True,
).value
GATEWAY_MESSAGE_CONTENT = 1 << 18
GATEWAY_MESSAGE_CONTENT_LIMITED = 1 << 19
GATEWAY_GUILD_MEMBERS = 1 << 14
GATEWAY_GUILD_MEMBERS_LIMITED = 1 << 15
GATEWAY_PRESENCE = 1 << 12
GATEWAY_PRESENCE_LIMITED = 1 << 13


class RealClock(Clock):
    """The machine's time, to the millisecond."""

    def now(self) -> datetime.datetime:
        now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.elapsed)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


class World(Backend):
    def __init__(self) -> None:
        super().__init__(clock=RealClock())
        self.cdn = Cdn()
        # Only tests in one process read these two; here the server keeps its own record.
        self.transcript = deque(maxlen=0)
        self.http_requests = deque(maxlen=0)
        self.application_flags = (
            GATEWAY_MESSAGE_CONTENT_LIMITED | GATEWAY_GUILD_MEMBERS_LIMITED | GATEWAY_PRESENCE_LIMITED
        )
        self.last_pins: dict[int, str] = {}
        self.pinned_at: dict[int, str] = {}
        self.channel_settings: dict[int, dict[str, Any]] = {}
        self.closed_dms: set[int] = set()
        self.interaction_callbacks: dict[int, list[dict[str, Any]]] = {}
        self._nonces: dict[tuple[int, str], tuple[datetime.datetime, int, int]] = {}
        self._nonce_by_message: dict[int, Any] = {}
        self._silent = False
        self.owner = self.make_user("olivia", global_name="Olivia")
        self.alice = self.make_user("alice", global_name="Alice")

    # --- events ---

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        if not self._silent:
            super().emit(event, payloads.enrich(self, event, payload))

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Changes made inside are not announced."""
        before, self._silent = self._silent, True
        try:
            yield
        finally:
            self._silent = before

    # --- guilds and members ---

    def open_guild(
        self,
        name: str,
        *,
        channels: Iterable[str] = ("general",),
        members: Iterable[User] = (),
        shard: tuple[int, int] | None = None,
        bot_permissions: int = BOT_PERMISSIONS,
    ) -> Guild:
        """A guild that the bot is in, announced once it is complete."""
        place = {} if shard is None else {"shard_id": shard[0], "shard_count": shard[1]}
        with self.silence():
            guild = self.create_guild(name, owner_id=self.owner.id, **place)
            self.bot_role(guild).permissions = bot_permissions
            for channel_name in channels:
                self.create_channel(guild.id, channel_name)
            for user in members:
                self.add_member(guild.id, user.id)
        self.emit("GUILD_CREATE", serializers.guild_create_payload(self, guild))
        return guild

    def bot_role(self, guild: Guild) -> Role:
        return next(role for role in guild.roles.values() if role.managed)

    def set_bot_overwrite(self, channel_id: int, allow: int, deny: int) -> None:
        self.set_overwrite(channel_id, Overwrite(self.bot_user.id, OverwriteType.MEMBER, allow, deny))

    def application_may(self, *flags: int) -> bool:
        """Whether the application has one of these flags of privileged intents."""
        return any(self.application_flags & flag for flag in flags)

    @property
    def reads_content(self) -> bool:
        return self.application_may(GATEWAY_MESSAGE_CONTENT, GATEWAY_MESSAGE_CONTENT_LIMITED)

    # --- nonces ---

    def message_with_nonce(self, author_id: int, nonce: Any) -> Message | None:
        """The message that this author sent with the same nonce in the last minutes."""
        known = self._nonces.get((author_id, str(nonce)))
        if known is None or (self.clock.now() - known[0]).total_seconds() > NONCE_SECONDS:
            return None
        return self.messages.get(known[1], {}).get(known[2])

    def remember_nonce(self, message: Message, nonce: Any) -> None:
        self._nonces[message.author_id, str(nonce)] = (self.clock.now(), message.channel_id, message.id)
        self._nonce_by_message[message.id] = nonce

    def nonce_of(self, message_id: int) -> Any:
        return self._nonce_by_message.get(message_id)

    # --- threads ---

    def create_thread(
        self,
        parent_id: int,
        name: str,
        owner_id: int,
        *,
        message_id: int | None = None,
        broadcast: bool = True,
        **settings: Any,
    ) -> Channel:
        if message_id is None or not broadcast:
            return super().create_thread(
                parent_id, name, owner_id, message_id=message_id, broadcast=broadcast, **settings
            )
        thread = super().create_thread(parent_id, name, owner_id, message_id=message_id, broadcast=False, **settings)
        self.announce_thread_create(thread)
        starter = self.get_message(parent_id, message_id)
        self.emit("MESSAGE_UPDATE", dict(serializers.message_payload(self, starter)))
        self.create_system_message(
            thread.id,
            MessageType.THREAD_STARTER_MESSAGE,
            owner_id,
            referenced_channel_id=parent_id,
            referenced_message_id=message_id,
        )
        return thread

    def open_forum_post(
        self,
        forum_id: int,
        name: str,
        starter: Message,
        *,
        applied_tags: Iterable[int] = (),
        archive_minutes: int = 4320,
    ) -> Channel:
        """A thread in a forum with its first message, which has the same id."""
        thread = self.create_thread(
            forum_id,
            name,
            starter.author_id,
            message_id=starter.id,
            applied_tags=list(applied_tags),
            auto_archive_duration=archive_minutes,
            broadcast=False,
        )
        starter.channel_id = thread.id
        self.get_channel(forum_id).last_message_id = thread.id
        self.announce_thread_create(thread)
        self.commit_message(starter)
        return thread

    def unarchive_for_message(self, channel: Channel) -> None:
        """A message in an archived thread opens it again."""
        if channel.thread_metadata is not None and channel.thread_metadata.archived:
            self.edit_channel(channel.id, {}, thread_metadata={"archived": False})

    def edit_channel(self, channel_id: int, changes: Mapping[str, Any], **more: Any) -> Channel:
        channel = self.get_channel(channel_id)
        metadata = more.get("thread_metadata") or {}
        if "archived" in metadata and channel.thread_metadata is not None:
            channel.thread_metadata.archive_timestamp = self.now_iso()
        before = channel.name
        edited = super().edit_channel(channel_id, changes, **more)
        if channel.is_thread and "name" in changes and before != channel.name:
            self.create_system_message(
                channel.id, MessageType.CHANNEL_NAME_CHANGE, self.bot_user.id, target_channel_id=channel.id
            )
        return edited

    def create_system_message(self, channel_id: int, message_type: Any, author_id: int, **more: Any) -> Message:
        renamed_channel = message_type == MessageType.CHANNEL_NAME_CHANGE and not self.get_channel(channel_id).is_thread
        if not renamed_channel:
            return super().create_system_message(channel_id, message_type, author_id, **more)
        # Discord tells of a new name only in threads and groups; simcord does it in guild channels.
        return Message(id=0, channel_id=channel_id, author_id=author_id)

    # --- pins ---

    def set_pinned(self, channel_id: int, message_id: int, pinned: bool, *, actor_id: int | None = None) -> None:
        message = self.get_message(channel_id, message_id)
        if message.pinned != pinned:
            self.last_pins[channel_id] = self.pinned_at[message_id] = self.now_iso()
            message.pinned = pinned
            self.emit("MESSAGE_UPDATE", dict(serializers.message_payload(self, message)))
            message.pinned = not pinned
        super().set_pinned(channel_id, message_id, pinned, actor_id=actor_id)

    # --- polls ---

    def expire_poll(self, channel_id: int, message_id: int) -> Message:
        message = self.get_message(channel_id, message_id)
        ends_now = message.poll is not None and not message.poll.finalized
        if ends_now:
            message.poll.expiry = min(message.poll.expiry, self.now_iso())
        super().expire_poll(channel_id, message_id)
        if ends_now:
            self._announce_poll_result(message)
        return message

    def _announce_poll_result(self, message: Message) -> None:
        poll = message.poll
        assert poll is not None
        counts = {answer.answer_id: len(poll.votes.get(answer.answer_id, ())) for answer in poll.answers}
        best = max(counts.values(), default=0)
        winners = [answer for answer in poll.answers if counts[answer.answer_id] == best]
        fields = {
            "poll_question_text": poll.question,
            "victor_answer_votes": str(best),
            "total_votes": str(sum(counts.values())),
        }
        if best > 0 and len(winners) == 1:
            fields["victor_answer_id"] = str(winners[0].answer_id)
            fields["victor_answer_text"] = winners[0].text or ""
        embed_fields = [{"name": name, "value": value, "inline": False} for name, value in fields.items()]
        result = self.prepare_message(
            message.channel_id,
            message.author_id,
            embeds=[{"type": "poll_result", "fields": embed_fields}],
            reference={"message_id": str(message.id), "channel_id": str(message.channel_id)},
            message_type=MessageType.POLL_RESULT,
        )
        self.commit_message(result)
