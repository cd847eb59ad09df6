"""Fields that the real Discord sends and simcord leaves out, or sends differently.

`install()` replaces simcord's serializers with ones that call the original and correct its result; `enrich()` adds what
only gateway events carry (`guild_id`, `member`, the nonce of the bot's own message). Field names follow Discord's
OpenAPI document and its gateway documentation.

Fields of features that no test here uses (boosts, onboarding, stage discovery, clans) are constant or absent.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simcord.backend import serializers
from simcord.backend.models import Channel, Guild, Member, Message, Role, User, Webhook
from simcord.enums import ChannelType, MessageType

if TYPE_CHECKING:
    from world import World

ATTACHMENT_LIMIT = 10 * 1024 * 1024
HAS_THREAD_FLAG = 1 << 5
SILENT_SYSTEM_TYPES = tuple(kind for kind in MessageType if kind not in (0, 4, 18, 19, 20, 23))
EVENTS_WITH_MESSAGE = ("MESSAGE_CREATE", "MESSAGE_UPDATE")

_original = {
    name: getattr(serializers, f"{name}_payload")
    for name in ("member", "role", "channel", "thread", "message", "guild_create", "webhook", "invite", "thread_member")
}


def user_payload(user: User) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "id": str(user.id),
        "username": user.name,
        "discriminator": user.discriminator,
        "global_name": user.global_name,
        "avatar": user.avatar,
        "avatar_decoration_data": None,
        "banner": None,
        "accent_color": None,
        "collectibles": None,
        "primary_guild": None,
        "public_flags": user.public_flags,
        "flags": user.public_flags,
    }
    if user.bot:
        payload["bot"] = True
    if user.system:
        payload["system"] = True
    return payload


def own_user_payload(user: User) -> dict[str, Any]:
    """The bot's own user, which has private fields too."""
    return {**user_payload(user), "verified": True, "mfa_enabled": True, "locale": "en-US", "email": None}


def member_payload(backend: World, guild: Guild, member: Member, *, with_user: bool = True) -> dict[str, Any]:
    payload = dict(_original["member"](backend, guild, member, with_user=with_user))
    return {**payload, "banner": None, "avatar_decoration_data": None, "collectibles": None}


def role_payload(role: Role) -> dict[str, Any]:
    return {**_original["role"](role), "description": None}


def thread_member_payload(thread: Channel, user_id: int) -> dict[str, Any]:
    return dict(_original["thread_member"](thread, user_id))


def channel_payload(backend: World, channel: Channel) -> dict[str, Any]:
    payload = dict(_original["channel"](backend, channel))
    payload["flags"] = 0
    pinned_at = backend.last_pins.get(channel.id)
    if pinned_at is not None:
        payload["last_pin_timestamp"] = pinned_at
    if channel.is_thread:
        return payload
    if channel.type == ChannelType.DM:
        for key in ("parent_id", "topic", "rate_limit_per_user"):
            payload.pop(key, None)
        return payload
    payload["nsfw"] = backend.channel_settings.get(channel.id, {}).get("nsfw", False)
    if channel.type == ChannelType.FORUM:
        payload["default_sort_order"] = None
        payload["default_forum_layout"] = 0
    if channel.type == ChannelType.CATEGORY:
        for key in ("topic", "last_message_id", "rate_limit_per_user"):
            payload.pop(key, None)
    return payload


def thread_payload(backend: World, thread: Channel) -> dict[str, Any]:
    payload = dict(_original["thread"](backend, thread))
    parent = backend.channels.get(thread.parent_id or 0)
    if parent is None or parent.type != ChannelType.FORUM:
        payload.pop("applied_tags")
    if thread.type != ChannelType.PRIVATE_THREAD:
        payload["thread_metadata"] = {k: v for k, v in payload["thread_metadata"].items() if k != "invitable"}
    payload["member_count"] = min(payload["member_count"], 50)
    return payload


def guild_create_payload(backend: World, guild: Guild) -> dict[str, Any]:
    payload = dict(_original["guild_create"](backend, guild))
    member = guild.members.get(backend.bot_user.id)
    payload["joined_at"] = member.joined_at if member else payload["joined_at"]
    payload["threads"] = [t for t in payload["threads"] if not t["thread_metadata"]["archived"]]
    payload.update(
        nsfw=False,
        nsfw_level=0,
        region="deprecated",
        home_header=None,
        hub_type=None,
        widget_enabled=False,
        widget_channel_id=None,
        safety_alerts_channel_id=None,
        max_video_channel_users=25,
        max_stage_video_channel_users=50,
        incidents_data=None,
        lazy=True,
    )
    return payload


def webhook_payload(backend: World, webhook: Webhook, *, include_token: bool = True) -> dict[str, Any]:
    payload = dict(_original["webhook"](backend, webhook, include_token=include_token))
    if webhook.creator_id == backend.bot_user.id:
        payload["application_id"] = str(backend.application_id)
    if include_token:
        payload["url"] = f"{backend.cdn.base}/api/webhooks/{webhook.id}/{webhook.token}"
    else:
        payload.pop("user")
    return payload


def invite_payload(backend: World, invite: Any, *, with_inviter: bool = True) -> dict[str, Any]:
    payload = dict(_original["invite"](backend, invite, with_inviter=with_inviter))
    guild = backend.guilds.get(invite.guild_id)
    if guild is not None:
        payload["guild"] = {
            "id": str(guild.id),
            "name": guild.name,
            "icon": None,
            "splash": None,
            "banner": None,
            "description": guild.description,
            "features": [],
            "verification_level": guild.verification_level,
            "vanity_url_code": None,
            "nsfw": False,
            "nsfw_level": 0,
            "premium_subscription_count": 0,
            "premium_tier": 0,
        }
    return {**payload, "type": 0, "flags": 0}


def message_payload(backend: World, message: Message, *, for_user: int | None = None) -> dict[str, Any]:
    """One message as its answer to the HTTP API; `for_user` is always the bot here."""
    payload = _message_without_reference(backend, message)
    reference = _reference_of(backend, message)
    if reference is None:
        return payload
    payload["message_reference"] = reference
    if message.snapshots:
        payload["message_snapshots"] = [{"message": dict(s["message"])} for s in message.snapshots]
    elif reference["type"] == 0 and "message_id" in reference and message.type in (0, 19, 20, 21, 23):
        target = backend.messages.get(int(reference["channel_id"]), {}).get(int(reference["message_id"]))
        payload["referenced_message"] = None if target is None else _message_without_reference(backend, target)
        if target is not None:
            shown = _reference_of(backend, target)
            if shown is not None:
                payload["referenced_message"]["message_reference"] = shown
    return payload


def _message_without_reference(backend: World, message: Message) -> dict[str, Any]:
    bare = replace(message, reference=None, system_metadata=None)
    payload = dict(_original["message"](backend, bare, for_user=backend.bot_user.id))
    for key in ("guild_id", "nonce"):
        payload.pop(key, None)
    for key in ("reactions", "sticker_items"):
        if not payload[key]:
            payload.pop(key)
    payload["mentions"] = list({user["id"]: user for user in payload["mentions"]}.values())
    payload["mention_roles"] = _known_roles(backend, message)
    payload["embeds"] = [{"type": "rich", **embed} for embed in payload["embeds"]]
    payload["components"] = _numbered(payload["components"])
    if message.type in SILENT_SYSTEM_TYPES:
        payload["content"] = ""
    if message.webhook_id is not None:
        payload["author"] = _webhook_author(message, payload["author"])
        webhook = backend.webhooks.get(message.webhook_id)
        if webhook is not None and webhook.creator_id == backend.bot_user.id:
            payload["application_id"] = str(backend.application_id)
    if message.interaction_metadata is not None:
        payload["application_id"] = payload["webhook_id"] = str(backend.application_id)
    thread = backend.channels.get(message.id)
    if thread is not None and thread.is_thread and thread.parent_id == message.channel_id:
        payload["thread"] = thread_payload(backend, thread)
        payload["flags"] |= HAS_THREAD_FLAG
    return payload


def _known_roles(backend: World, message: Message) -> list[str]:
    guild = backend.guilds.get(backend.channels[message.channel_id].guild_id or 0)
    if guild is None:
        return []
    return [str(role) for role in dict.fromkeys(message.mention_role_ids) if role in guild.roles]


def _numbered(components: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Components whose missing ids are filled in order of appearance."""
    counter = 0

    def visit(component: dict[str, Any]) -> dict[str, Any]:
        nonlocal counter
        counter += 1
        numbered = {**component, "id": component.get("id") or counter}
        if isinstance(component.get("components"), list):
            numbered["components"] = [visit(child) for child in component["components"]]
        if isinstance(component.get("accessory"), dict):
            numbered["accessory"] = visit(component["accessory"])
        return numbered

    return [visit(component) for component in components]


def _webhook_author(message: Message, author: dict[str, Any]) -> dict[str, Any]:
    avatar = message.author_avatar
    return {
        "id": author["id"],
        "username": author["username"],
        "global_name": None,
        "discriminator": "0000",
        "avatar": hashlib.md5(avatar.encode()).hexdigest() if avatar else None,
        "public_flags": 0,
        "flags": 0,
        "bot": True,
        "primary_guild": None,
    }


def _reference_of(backend: World, message: Message) -> dict[str, Any] | None:
    metadata = message.system_metadata
    if metadata is not None and metadata.referenced_message_id is not None:
        channel_id, message_id = metadata.referenced_channel_id or message.channel_id, metadata.referenced_message_id
        reference: dict[str, Any] = {"type": 0, "channel_id": str(channel_id), "message_id": str(message_id)}
    elif metadata is not None and metadata.channel_id is not None and message.type == MessageType.THREAD_CREATED:
        reference = {"type": 0, "channel_id": str(metadata.channel_id)}
    elif message.reference is not None:
        reference = {k: v for k, v in message.reference.items() if k != "fail_if_not_exists"}
    else:
        return None
    target = backend.channels.get(int(reference["channel_id"]))
    if target is not None and target.guild_id is not None:
        reference["guild_id"] = str(target.guild_id)
    return reference


def enrich(world: World, event: str, payload: Any) -> dict[str, Any]:
    """The payload of a gateway event with what only the gateway adds."""
    payload = dict(payload)
    if event in EVENTS_WITH_MESSAGE:
        _enrich_message(world, event, payload)
    elif event == "TYPING_START":
        payload["timestamp"] = int(world.clock.now().timestamp())
        guild = world.guilds.get(int(payload.get("guild_id", 0)))
        member = guild.members.get(int(payload["user_id"])) if guild else None
        if guild is not None and member is not None:
            payload["member"] = member_payload(world, guild, member)
    elif event == "THREAD_MEMBERS_UPDATE":
        keep = ("id", "guild_id", "member_count", "added_members", "removed_member_ids")
        payload = {key: payload[key] for key in keep if key in payload}
    elif event == "THREAD_DELETE":
        payload = {key: payload[key] for key in ("id", "guild_id", "parent_id", "type")}
    elif event == "INTERACTION_CREATE":
        _enrich_interaction(payload)
    elif event == "MESSAGE_REACTION_ADD":
        message = world.messages.get(int(payload["channel_id"]), {}).get(int(payload["message_id"]))
        if message is not None:
            payload["message_author_id"] = str(message.author_id)
    elif event == "GUILD_UPDATE":
        for key in ("channels", "threads", "members", "presences", "voice_states", "joined_at", "large", "unavailable"):
            payload.pop(key, None)
    elif event == "USER_UPDATE":
        payload = own_user_payload(world.bot_user)
    return payload


def _enrich_message(world: World, event: str, payload: dict[str, Any]) -> None:
    channel = world.channels[int(payload["channel_id"])]
    if event == "MESSAGE_CREATE":
        payload["channel_type"] = int(channel.type)
        nonce = world.nonce_of(int(payload["id"]))
        if nonce is not None:
            payload["nonce"] = nonce
    guild = world.guilds.get(channel.guild_id or 0)
    if guild is None:
        payload.pop("member", None)
        return
    payload["guild_id"] = str(guild.id)
    author = guild.members.get(int(payload["author"]["id"]))
    by_webhook = "webhook_id" in payload and "interaction_metadata" not in payload
    payload.pop("member", None)
    if author is not None and not by_webhook:
        payload["member"] = member_payload(world, guild, author, with_user=False)
    mentions = []
    for user in payload["mentions"]:
        member = guild.members.get(int(user["id"]))
        extra = {} if member is None else {"member": member_payload(world, guild, member, with_user=False)}
        mentions.append({**user, **extra})
    payload["mentions"] = mentions


def _enrich_interaction(payload: dict[str, Any]) -> None:
    payload["attachment_size_limit"] = ATTACHMENT_LIMIT
    if "guild_id" in payload:
        payload["guild"] = {"id": payload["guild_id"], "locale": "en-US", "features": []}
        payload["authorizing_integration_owners"] = {"0": payload["guild_id"]}
    else:
        payload["authorizing_integration_owners"] = {"0": "0"}


def install() -> None:
    """Make simcord use these serializers everywhere."""
    for name in (
        "user",
        "member",
        "role",
        "channel",
        "thread",
        "thread_member",
        "message",
        "guild_create",
        "webhook",
        "invite",
    ):
        setattr(serializers, f"{name}_payload", globals()[f"{name}_payload"])
