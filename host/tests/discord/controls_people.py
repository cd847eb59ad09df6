"""Controls that play people: who they are, what they write, and how they react.

It checks no permissions of the people, and no limits of their clients on files or nicknames.
"""

from __future__ import annotations

import base64
from typing import Any

from simcord.backend import serializers
from simcord.backend.cdn import sticker_url
from simcord.backend.models import Channel, Member, Message, MessageSticker, User
from simcord.enums import ChannelType
from simcord.http._helpers import poll_from_wire

from controls import ControlError, Panel, control, emoji_key, identifiers

CHANNEL_TYPES = {
    "text": ChannelType.TEXT,
    "forum": ChannelType.FORUM,
    "announcement": ChannelType.NEWS,
    "voice": ChannelType.VOICE,
    "category": ChannelType.CATEGORY,
    "stage": ChannelType.STAGE_VOICE,
}


# --- who and where ---


@control("user")
def make_user(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    """{name, global_name?, bot?, avatar?, guild?: id or null, nick?} A new user, in the guild unless that is null."""
    user = panel.world.make_user(
        body["name"], bot=bool(body.get("bot", False)), global_name=body.get("global_name"), avatar=body.get("avatar")
    )
    if "guild" not in body or body["guild"] is not None:
        panel.world.add_member(panel.guild(body).id, user.id, nick=body.get("nick"), announce=True)
    return {"id": str(user.id)}


@control("guild")
def make_guild(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{name?, channels?: [names], shard?} The bot joins a new guild."""
    shard = (int(body["shard"]), panel.gateway.shards) if "shard" in body else None
    guild = panel.world.open_guild(
        body.get("name", "New Guild"),
        channels=body.get("channels", ["general"]),
        members=[panel.world.alice],
        shard=shard,
    )
    return {"id": str(guild.id), "channels": [str(channel) for channel in guild.channel_ids]}


@control("channel")
def make_channel(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{name, type?: text|forum|announcement|voice|category|stage, guild?, parent?, topic?, tags?: [names], nsfw?} Gives the
    ids of the tags, too."""
    kind = CHANNEL_TYPES.get(body.get("type", "text"))
    if kind is None:
        raise ControlError(f"'type' must be one of {', '.join(CHANNEL_TYPES)}.")
    world = panel.world
    tags = [
        {"id": str(world.snowflake()), "name": name, "moderated": False, "emoji_id": None, "emoji_name": None}
        for name in body.get("tags", [])
    ]
    channel = world.create_channel(
        panel.guild(body).id,
        body["name"],
        type=kind,
        topic=body.get("topic"),
        parent_id=int(body["parent"]) if body.get("parent") else None,
        available_tags=tags,
        announce=False,
    )
    world.channel_settings[channel.id] = {"nsfw": bool(body.get("nsfw", False))}
    world.emit("CHANNEL_CREATE", serializers.channel_payload(world, channel))
    return {"id": str(channel.id), "tags": [tag["id"] for tag in tags]}


@control("channel_update")
def change_channel(panel: Panel, body: dict[str, Any]) -> None:
    """{channel, name?, topic?, parent?}"""
    changes = {key: body[key] for key in ("name", "topic") if key in body}
    if "parent" in body:
        changes["parent_id"] = int(body["parent"]) if body["parent"] else None
    panel.world.edit_channel(panel.channel(body).id, changes)


@control("channel_delete")
def remove_channel(panel: Panel, body: dict[str, Any]) -> None:
    """{channel} Also for threads."""
    panel.world.delete_channel(int(body["channel"]))


@control("dm")
def direct_channel(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    """{user?, open?: bool} The channel between the user and the bot; `open: false` makes the user refuse messages."""
    user = panel.user(body)
    if "open" in body:
        (panel.world.closed_dms.discard if body["open"] else panel.world.closed_dms.add)(user.id)
    return {"channel": str(panel.world.get_dm_channel(user.id).id)}


@control("join")
def join(panel: Panel, body: dict[str, Any]) -> None:
    """{user?, guild?, nick?}"""
    panel.world.add_member(panel.guild(body).id, panel.user(body).id, nick=body.get("nick"), announce=True)


@control("leave")
def leave(panel: Panel, body: dict[str, Any]) -> None:
    """{user?, guild?} With the bot as user, the bot is thrown out of the guild."""
    guild, user = panel.guild(body), panel.user(body)
    if user.id == panel.world.bot_user.id:
        panel.world.remove_guild(guild.id)
    else:
        panel.world.remove_member(guild.id, user.id)


@control("emoji")
def make_emoji(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{name, animated?, guild?} A custom emoji of the guild."""
    emoji = panel.world.create_emoji(
        panel.guild(body).id, body["name"], panel.user(body).id, animated=bool(body.get("animated", False))
    )
    return {"id": str(emoji.id), "name": emoji.name}


@control("sticker")
def make_sticker(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{name, format?: 1 png|2 apng|3 lottie|4 gif, guild?} A sticker of the guild."""
    sticker = panel.world.create_sticker(
        panel.guild(body).id, body["name"], panel.user(body).id, format_type=int(body.get("format", 1)), tags="smile"
    )
    return {"id": str(sticker.id), "name": sticker.name}


# --- messages ---


@control("say")
def say(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    """{channel?, user?, text?, files?, reply_to?, forward_of?, sticker?, embeds?, components?, poll?, flags?, mentions?,
    nonce?, webhook?} Someone writes a message. `files`: [{name, text|base64|size, type?, size?, description?,
    duration_secs?, waveform?}]. `webhook`: a name; the message then comes from a webhook that Alice made."""
    message = _compose(panel, body, panel.channel(body))
    panel.world.unarchive_for_message(panel.world.get_channel(message.channel_id))
    if body.get("nonce") is not None:
        panel.world.remember_nonce(message, body["nonce"])
    panel.world.commit_message(message)
    return {"id": str(message.id), "channel": str(message.channel_id)}


@control("burst")
def burst(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{channel?, user?, count, text?} Many messages at once: `<text> 1`, `<text> 2` and so on."""
    channel, user = panel.channel(body), panel.user(body)
    text = body.get("text", "burst")
    made = [panel.world.create_message(channel.id, user.id, f"{text} {n + 1}") for n in range(int(body["count"]))]
    return {"ids": [str(message.id) for message in made]}


def _compose(panel: Panel, body: dict[str, Any], channel: Channel) -> Message:
    world = panel.world
    author, more = _author(panel, body, channel)
    reference = None
    if body.get("reply_to"):
        reference = {"type": 0, "message_id": str(body["reply_to"]), "channel_id": str(channel.id)}
    elif body.get("forward_of"):
        source = panel.message(body, "forward_of")
        reference = {"type": 1, "message_id": str(source.id), "channel_id": str(source.channel_id)}
    message = world.prepare_message(
        channel.id,
        author.id,
        body.get("text", ""),
        embeds=body.get("embeds"),
        components=body.get("components"),
        attachments=[_store_file(panel, channel, file) for file in body.get("files", [])] or None,
        stickers=[_sticker(panel, body["sticker"])] if body.get("sticker") else None,
        flags=int(body.get("flags", 0)),
        reference=reference,
        poll=poll_from_wire(world, body["poll"]) if body.get("poll") else None,
        **more,
    )
    message.mention_user_ids.extend(identifiers(body.get("mentions", [])))
    return message


def _author(panel: Panel, body: dict[str, Any], channel: Channel) -> tuple[User, dict[str, Any]]:
    name = body.get("webhook")
    if name is None:
        return panel.user(body), {}
    world = panel.world
    known = [hook for hook in world.webhooks.values() if hook.name == name and hook.channel_id == channel.id]
    webhook = known[0] if known else world.create_webhook(channel.id, name, world.alice.id)
    return world.get_user(webhook.webhook_user_id), {"webhook_id": webhook.id, "author_name": name}


def _store_file(panel: Panel, channel: Channel, file: dict[str, Any]) -> dict[str, Any]:
    world = panel.world
    if "base64" in file:
        data = base64.b64decode(file["base64"])
    elif "text" in file:
        data = file["text"].encode()
    elif "size" in file:
        data = b"x" * int(file["size"])
    else:
        raise ControlError("A file needs 'text', 'base64' or 'size'.")
    attachment = world.cdn.store_attachment(
        world.snowflake(),
        channel.id,
        file["name"],
        data,
        file.get("description"),
        content_type=file.get("type"),
        announced_size=file.get("size"),
    )
    attachment.update({key: file[key] for key in ("duration_secs", "waveform", "width", "height") if key in file})
    return attachment


def _sticker(panel: Panel, wanted: Any) -> MessageSticker:
    for guild in panel.world.guilds.values():
        for sticker in guild.stickers.values():
            if str(sticker.id) == str(wanted) or sticker.name == wanted:
                url = sticker.url or sticker_url(sticker.id, sticker.format_type)
                return MessageSticker(sticker.id, sticker.name, sticker.format_type, guild.id, url)
    raise ControlError(f"There is no sticker {wanted!r}; make one with the control 'sticker'.")


@control("edit")
def edit(panel: Panel, body: dict[str, Any]) -> None:
    """{id, text?, embeds?} The author changes a message."""
    message = panel.message(body)
    changes: dict[str, Any] = {"content": body["text"]} if "text" in body else {}
    if "embeds" in body:
        changes["embeds"] = body["embeds"]
    if not changes:
        raise ControlError("An edit needs 'text' or 'embeds'.")
    panel.world.edit_message(message.channel_id, message.id, changes)


@control("delete")
def delete(panel: Panel, body: dict[str, Any]) -> None:
    """{id}"""
    message = panel.message(body)
    panel.world.delete_message(message.channel_id, message.id)


@control("bulk_delete")
def bulk_delete(panel: Panel, body: dict[str, Any]) -> None:
    """{channel?, ids}"""
    panel.world.bulk_delete_messages(panel.channel(body).id, identifiers(body["ids"]))


@control("pin")
def pin(panel: Panel, body: dict[str, Any]) -> None:
    """{id, pinned?: bool, user?}"""
    message = panel.message(body)
    panel.world.set_pinned(message.channel_id, message.id, bool(body.get("pinned", True)), actor_id=panel.user(body).id)


# --- reactions, votes, typing ---


@control("react")
def react(panel: Panel, body: dict[str, Any]) -> None:
    """{id, emoji, user?}"""
    message = panel.message(body)
    panel.world.add_reaction(message.channel_id, message.id, emoji_key(body["emoji"]), panel.user(body).id)


@control("unreact")
def unreact(panel: Panel, body: dict[str, Any]) -> None:
    """{id, emoji, user?}"""
    message = panel.message(body)
    panel.world.remove_reaction(message.channel_id, message.id, emoji_key(body["emoji"]), panel.user(body).id)


@control("clear_reactions")
def clear_reactions(panel: Panel, body: dict[str, Any]) -> None:
    """{id, emoji?} All reactions, or all of one emoji."""
    message = panel.message(body)
    if "emoji" in body:
        panel.world.clear_reaction(message.channel_id, message.id, emoji_key(body["emoji"]))
    else:
        panel.world.clear_reactions(message.channel_id, message.id)


@control("vote")
def vote(panel: Panel, body: dict[str, Any]) -> None:
    """{id, answer: number, user?}"""
    message = panel.message(body)
    panel.world.add_poll_vote(message.channel_id, message.id, int(body["answer"]), panel.user(body).id)


@control("unvote")
def unvote(panel: Panel, body: dict[str, Any]) -> None:
    """{id, answer: number, user?}"""
    message = panel.message(body)
    panel.world.remove_poll_vote(message.channel_id, message.id, int(body["answer"]), panel.user(body).id)


@control("typing")
def typing(panel: Panel, body: dict[str, Any]) -> None:
    """{channel?, user?}"""
    channel = panel.channel(body)
    payload: dict[str, Any] = {"channel_id": str(channel.id), "user_id": str(panel.user(body).id)}
    if channel.guild_id is not None:
        payload["guild_id"] = str(channel.guild_id)
    panel.world.emit("TYPING_START", payload)


# --- threads ---


@control("thread")
def thread(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    """{name, message?, channel?, text?, tags?: [ids], private?, user?} A thread from a message, without one, or (in a
    forum) a post whose first message is `text`."""
    world, user = panel.world, panel.user(body)
    if body.get("message"):
        message = panel.message(body, "message")
        opened = world.create_thread(message.channel_id, body["name"], user.id, message_id=message.id)
        return {"id": str(opened.id)}
    channel = panel.channel(body)
    if channel.type == ChannelType.FORUM:
        starter = _compose(panel, body, channel)
        opened = world.open_forum_post(
            channel.id, body["name"], starter, applied_tags=identifiers(body.get("tags", []))
        )
        return {"id": str(opened.id), "message": str(starter.id)}
    kind = ChannelType.PRIVATE_THREAD if body.get("private") else ChannelType.PUBLIC_THREAD
    opened = world.create_thread(channel.id, body["name"], user.id, type=kind)
    return {"id": str(opened.id)}


@control("thread_update")
def thread_update(panel: Panel, body: dict[str, Any]) -> None:
    """{channel, archived?, locked?, name?}"""
    metadata = {key: bool(body[key]) for key in ("archived", "locked") if key in body}
    changes = {"name": body["name"]} if "name" in body else {}
    panel.world.edit_channel(int(body["channel"]), changes, thread_metadata=metadata)


@control("thread_members")
def thread_members(panel: Panel, body: dict[str, Any]) -> None:
    """{channel, add?: user, remove?: user}"""
    if "add" in body:
        panel.world.add_thread_member(int(body["channel"]), panel.user(body, "add").id)
    if "remove" in body:
        panel.world.remove_thread_member(int(body["channel"]), panel.user(body, "remove").id)


@control("nick")
def nick(panel: Panel, body: dict[str, Any]) -> None:
    """{nick, user?, guild?} The name of a member in a guild."""
    member: Member = panel.world.get_member(panel.guild(body).id, panel.user(body).id)
    member.nick = body["nick"]
    panel.world.announce_member_update(panel.guild(body).id, member.user_id)
