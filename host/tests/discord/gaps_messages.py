"""Message routes: what simcord's versions leave out.

Sending: the nonce rule, replies to unknown messages, forbidden contents by permission, archived threads, voice messages,
closed direct messages. Then reactions (unknown emojis, paging), pins in both forms, history limits, and poll voters.

It does not check slow mode or the size of a picture.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from simcord.backend import errors, serializers
from simcord.backend.access import channel_accessible
from simcord.backend.errors import BackendError
from simcord.backend.models import Channel, Message
from simcord.components import resolve_attachment_references
from simcord.enums import ChannelType
from simcord.http._helpers import message_edit_changes, message_response, prepare_bot_message
from simcord.http.router import RequestContext

import wire_errors
from gaps import serve, simcord_handler
from world import World

WRITABLE = (
    ChannelType.TEXT,
    ChannelType.DM,
    ChannelType.VOICE,
    ChannelType.NEWS,
    ChannelType.STAGE_VOICE,
    ChannelType.PUBLIC_THREAD,
    ChannelType.PRIVATE_THREAD,
)
LONGEST_NONCE = 25
MOST_REACTIONS = 20
VOICE_MESSAGE_FLAG = 1 << 13
READ_ONLY_WHEN_SENDING = ("nonce", "enforce_nonce", "message_reference", "sticker_ids", "tts", "username", "avatar_url")


# --- sending ---


def check_may_send(ctx: RequestContext, channel: Channel) -> None:
    world: World = ctx.backend
    if channel.type not in WRITABLE:
        ctx.require_channel_permissions(channel.id)
        raise BackendError(400, 50008, "Cannot send messages in a non-text channel")
    if channel.type == ChannelType.DM:
        if any(world.users[user].bot or user in world.closed_dms for user in channel.recipient_ids):
            raise errors.cannot_dm_bot()
        return
    ctx.require_channel_permissions(channel.id, "send_messages_in_threads" if channel.is_thread else "send_messages")
    check_thread_open(ctx, channel, for_message=True)


def check_thread_open(ctx: RequestContext, channel: Channel, *, for_message: bool = False) -> None:
    """Archived threads refuse everything but a message, and locked ones refuse that too."""
    metadata = channel.thread_metadata
    if metadata is None or not metadata.archived:
        return
    if not for_message or metadata.locked:
        raise BackendError(400, 50083, "Tried to perform an operation on an archived thread")


def check_contents(ctx: RequestContext, channel: Channel, body: dict[str, Any]) -> None:
    """Contents that need a permission of their own."""
    if channel.guild_id is None:
        return
    if ctx.files:
        ctx.require_channel_permissions(channel.id, "attach_files")
    if body.get("embeds"):
        ctx.require_channel_permissions(channel.id, "embed_links")
    if body.get("poll"):
        ctx.require_channel_permissions(channel.id, "send_polls")


def check_reply(ctx: RequestContext, channel: Channel, body: dict[str, Any]) -> dict[str, Any]:
    """The body without a reference to a message that is gone, if the sender allows that."""
    reference = body.get("message_reference")
    if not isinstance(reference, dict) or reference.get("type", 0) != 0 or "message_id" not in reference:
        return body
    target = str(reference["message_id"])
    if target.isdigit() and int(target) in ctx.backend.messages.get(channel.id, {}):
        if not channel_accessible(ctx.backend, channel.id, ctx.backend.bot_user.id, history=True):
            raise BackendError(403, 160002, "Cannot reply without permission to read message history")
        return body
    if reference.get("fail_if_not_exists", True):
        raise wire_errors.field_error("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
    return {key: value for key, value in body.items() if key != "message_reference"}


def check_body(ctx: RequestContext, body: dict[str, Any]) -> None:
    nonce = body.get("nonce")
    if isinstance(nonce, str) and len(nonce) > LONGEST_NONCE:
        raise wire_errors.field_error("nonce", "BASE_TYPE_MAX_LENGTH", f"Must be {LONGEST_NONCE} or fewer in length.")
    if int(body.get("flags") or 0) & VOICE_MESSAGE_FLAG:
        upload = ctx.files[0] if len(ctx.files) == 1 else None
        if upload is None or upload.duration_secs is None or upload.waveform is None or body.get("content"):
            raise wire_errors.field_error(
                "flags", "VOICE_MESSAGE_INVALID", "One audio file with duration and waveform."
            )
    poll = body.get("poll")
    if poll:
        _check_poll(poll)


def _check_poll(poll: dict[str, Any]) -> None:
    question = (poll.get("question") or {}).get("text") or ""
    answers = poll.get("answers") or []
    if not 1 <= len(question) <= 300:
        raise wire_errors.field_error("poll", "BASE_TYPE_BAD_LENGTH", "question: Must be between 1 and 300 in length.")
    if not 1 <= len(answers) <= 10:
        raise wire_errors.field_error("poll", "BASE_TYPE_BAD_LENGTH", "answers: Must be between 1 and 10 in length.")
    if any(not 1 <= len((answer.get("poll_media") or {}).get("text") or "") <= 55 for answer in answers):
        raise wire_errors.field_error("poll", "BASE_TYPE_BAD_LENGTH", "answers: Must be between 1 and 55 in length.")
    if not 1 <= int(poll.get("duration") or 24) <= 768:
        raise wire_errors.field_error("poll", "NUMBER_TYPE_MAX", "duration: Must be between 1 and 768.")


def attach_uploads(ctx: RequestContext, channel_id: int, message: Message, contents: list[bytes]) -> None:
    """Store the request's files and put them into the message."""
    world: World = ctx.backend
    message.attachments = [
        world.cdn.store_upload(world.snowflake(), channel_id, upload, data)
        for upload, data in zip(ctx.files, contents, strict=True)
    ]
    message.components = resolve_attachment_references(message.components, message.attachments)


@serve("POST", "/channels/{channel_id}/messages")
def send_message(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    channel = world.get_channel(ctx.int_arg("channel_id"))
    check_may_send(ctx, channel)
    body = ctx.body()
    check_body(ctx, body)
    check_contents(ctx, channel, body)
    nonce, enforced = body.get("nonce"), bool(body.get("enforce_nonce"))
    if nonce is not None and enforced:
        first = world.message_with_nonce(world.bot_user.id, nonce)
        if first is not None:
            return {**message_response(ctx, first), "nonce": nonce}
    body = check_reply(ctx, channel, body)
    message, contents = prepare_bot_message(ctx, channel.id, body=body)
    attach_uploads(ctx, channel.id, message, contents)
    if nonce is not None:
        world.remember_nonce(message, nonce)
    world.unarchive_for_message(channel)
    world.commit_message(message)
    answer = message_response(ctx, message)
    return answer if nonce is None else {**answer, "nonce": nonce}


def edit_fields(body: dict[str, Any]) -> dict[str, Any]:
    """The body of an edit without what Discord reads only when a message is sent."""
    return {key: value for key, value in body.items() if key not in READ_ONLY_WHEN_SENDING}


@serve("PATCH", "/channels/{channel_id}/messages/{message_id}")
def edit_message(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    message = ctx.require_message(ctx.int_arg("channel_id"), ctx.int_arg("message_id"))
    if message.author_id != world.bot_user.id:
        raise errors.cannot_edit_other_user()
    check_thread_open(ctx, world.get_channel(message.channel_id))
    changes = message_edit_changes(ctx, message, body=edit_fields(ctx.body()))
    return message_response(ctx, world.edit_message(message.channel_id, message.id, changes))


@serve("GET", "/channels/{channel_id}/messages")
def history(ctx: RequestContext) -> Any:
    limit = int(ctx.params.get("limit", 50))
    if not 1 <= limit <= 100:
        raise wire_errors.field_error("limit", "NUMBER_TYPE_MAX", "int value should be between 1 and 100.")
    world: World = ctx.backend
    if "after" not in ctx.params or "before" in ctx.params or "around" in ctx.params:
        return _simcord_history(ctx)
    channel = ctx.require_channel_permissions(ctx.int_arg("channel_id"))
    if not channel_accessible(world, channel.id, world.bot_user.id, history=True):
        return []
    after = int(ctx.params["after"])
    # Discord gives the messages that come next after the id, newest of them first.
    newer = sorted(
        key for key, message in world.messages[channel.id].items() if key > after and not message.is_ephemeral
    )
    return [message_response(ctx, world.messages[channel.id][key]) for key in reversed(newer[:limit])]


_simcord_history = simcord_handler("GET", "/channels/{channel_id}/messages")


# --- reactions ---


def check_emoji(ctx: RequestContext, message: Message, emoji: str) -> None:
    """An emoji must be one that exists; a custom one must be on the message or in a guild of the bot."""
    world: World = ctx.backend
    if message.reaction_for(emoji) is not None:
        return
    name, _, number = emoji.partition(":")
    if number:
        known = number.isdigit() and any(int(number) in guild.emojis for guild in world.guilds.values())
        if not known and not (number.isdigit() and int(number) in world.application_emojis):
            raise BackendError(400, 10014, "Unknown Emoji")
    elif name.isascii() and not (name[:1] in "0123456789#*" and len(name) <= 3 and not name.isdigit()):
        raise BackendError(400, 10014, "Unknown Emoji")
    if len(message.reactions) >= MOST_REACTIONS:
        raise BackendError(400, 30010, "Maximum number of reactions reached (20)")


@serve("PUT", "/channels/{channel_id}/messages/{message_id}/reactions/{emoji}/@me")
def add_reaction(ctx: RequestContext) -> Any:
    channel_id = ctx.int_arg("channel_id")
    message = ctx.require_message(channel_id, ctx.int_arg("message_id"), "read_message_history")
    check_thread_open(ctx, ctx.backend.get_channel(channel_id))
    check_emoji(ctx, message, unquote(ctx.args["emoji"]))
    return _simcord_add_reaction(ctx)


_simcord_add_reaction = simcord_handler("PUT", "/channels/{channel_id}/messages/{message_id}/reactions/{emoji}/@me")


@serve("GET", "/channels/{channel_id}/messages/{message_id}/reactions/{emoji}")
def reaction_users(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    message = ctx.require_message(ctx.int_arg("channel_id"), ctx.int_arg("message_id"), "read_message_history")
    reaction = message.reaction_for(unquote(ctx.args["emoji"]))
    after, limit = int(ctx.params.get("after", 0)), int(ctx.params.get("limit", 25))
    users = sorted(user for user in (reaction.user_ids if reaction else ()) if user > after)
    return [serializers.user_payload(world.get_user(user)) for user in users[:limit]]


# --- pins ---


@serve("GET", "/channels/{channel_id}/messages/pins")
def pins(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    limit = int(ctx.params.get("limit", 50))
    before = ctx.params.get("before")
    found = [
        (world.pinned_at.get(message.id, message.timestamp), message)
        for message in _pinned(ctx)
        if before is None or world.pinned_at.get(message.id, message.timestamp) < before
    ]
    found.sort(key=lambda pin: pin[0], reverse=True)
    items = [{"message": message_response(ctx, message), "pinned_at": at} for at, message in found[:limit]]
    return {"items": items, "has_more": len(found) > limit}


@serve("GET", "/channels/{channel_id}/pins")
def old_pins(ctx: RequestContext) -> Any:
    return [message_response(ctx, message) for message in reversed(_pinned(ctx))]


def _pinned(ctx: RequestContext) -> list[Message]:
    channel = ctx.require_channel_permissions(ctx.int_arg("channel_id"), "read_message_history")
    return [message for message in ctx.backend.messages[channel.id].values() if message.pinned]


for _method in ("PUT", "DELETE"):
    serve(_method, "/channels/{channel_id}/pins/{message_id}")(
        simcord_handler(_method, "/channels/{channel_id}/messages/pins/{message_id}")
    )


# --- polls ---


@serve("GET", "/channels/{channel_id}/polls/{message_id}/answers/{answer_id}")
def poll_voters(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    message = ctx.require_message(ctx.int_arg("channel_id"), ctx.int_arg("message_id"), "read_message_history")
    after, limit = int(ctx.params.get("after", 0)), int(ctx.params.get("limit", 25))
    voters = message.poll.votes.get(ctx.int_arg("answer_id"), set()) if message.poll else set()
    page = sorted(user for user in voters if user > after)[:limit]
    return {"users": [serializers.user_payload(world.get_user(user)) for user in page]}
