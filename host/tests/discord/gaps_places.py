"""Routes about users, guilds, channels, threads and the application: what simcord lacks or answers with other fields.

It serves only what a bot that relays messages asks for; moderation, voice and monetization are simcord's as they are.
"""

from __future__ import annotations

from typing import Any

from simcord.backend import errors, serializers
from simcord.backend.errors import BackendError
from simcord.backend.models import Channel, Guild
from simcord.enums import ChannelType
from simcord.http._helpers import message_response, prepare_bot_message
from simcord.http.router import RequestContext

import payloads
import wire_errors
from gaps import Created, flag_of, serve, simcord_handler
from gaps_messages import attach_uploads, check_body, check_contents
from world import GATEWAY_GUILD_MEMBERS, GATEWAY_GUILD_MEMBERS_LIMITED, World

ONLY_IN_GATEWAY = (
    "channels",
    "threads",
    "members",
    "presences",
    "voice_states",
    "stage_instances",
    "guild_scheduled_events",
    "soundboard_sounds",
    "joined_at",
    "large",
    "unavailable",
    "member_count",
    "lazy",
)
IN_PREVIEW = (
    "id",
    "name",
    "icon",
    "splash",
    "discovery_splash",
    "home_header",
    "emojis",
    "stickers",
    "features",
    "description",
)
ARCHIVE_MINUTES = (60, 1440, 4320, 10080)


# --- users and the application ---


@serve("GET", "/users/@me")
def me(ctx: RequestContext) -> Any:
    return payloads.own_user_payload(ctx.backend.bot_user)


@serve("GET", "/users/@me/guilds")
def my_guilds(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    limit = int(ctx.params.get("limit", 200))
    if not 1 <= limit <= 200:
        raise wire_errors.field_error("limit", "NUMBER_TYPE_MAX", "int value should be between 1 and 200.")
    guilds = sorted(world.guilds.values(), key=lambda guild: guild.id)
    if "after" in ctx.params:
        guilds = [guild for guild in guilds if guild.id > int(ctx.params["after"])]
    if "before" in ctx.params:
        guilds = [guild for guild in guilds if guild.id < int(ctx.params["before"])][-limit:]
    return [_my_guild(world, guild, flag_of(ctx, "with_counts")) for guild in guilds[:limit]]


def _my_guild(world: World, guild: Guild, with_counts: bool) -> dict[str, Any]:
    payload = {
        "id": str(guild.id),
        "name": guild.name,
        "icon": None,
        "banner": None,
        "owner": guild.owner_id == world.bot_user.id,
        "permissions": str(world.compute_permissions(guild.id, world.bot_user.id)),
        "features": [],
    }
    if with_counts:
        payload.update(approximate_member_count=len(guild.members), approximate_presence_count=len(guild.members))
    return payload


@serve("GET", "/applications/@me")
def application(ctx: RequestContext) -> Any:
    return _application(ctx.backend)


@serve("GET", "/oauth2/applications/@me")
def oauth_application(ctx: RequestContext) -> Any:
    return _application(ctx.backend)


def _application(world: World) -> dict[str, Any]:
    return {
        "id": str(world.application_id),
        "name": world.bot_user.name,
        "icon": None,
        "description": "",
        "summary": "",
        "type": None,
        "bot": payloads.user_payload(world.bot_user),
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "flags": world.application_flags,
        "flags_new": str(world.application_flags),
        "redirect_uris": [],
        "interactions_endpoint_url": None,
        "role_connections_verification_url": None,
        "owner": payloads.user_payload(world.owner),
        "approximate_guild_count": len(world.guilds),
        "approximate_user_install_count": 0,
        "approximate_user_authorization_count": 0,
        "explicit_content_filter": 0,
        "eligible_oauth2_scopes": [],
        "team": None,
        "integration_types_config": {"0": {}},
    }


# --- guilds ---


def guild_of_bot(ctx: RequestContext) -> Guild:
    guild = ctx.backend.get_guild(ctx.int_arg("guild_id"))
    if ctx.backend.bot_user.id not in guild.members:
        raise errors.missing_access()
    return guild


@serve("GET", "/guilds/{guild_id}")
def get_guild(ctx: RequestContext) -> Any:
    guild = guild_of_bot(ctx)
    full = serializers.guild_create_payload(ctx.backend, guild)
    payload = {key: value for key, value in full.items() if key not in ONLY_IN_GATEWAY}
    if flag_of(ctx, "with_counts"):
        payload.update(approximate_member_count=len(guild.members), approximate_presence_count=len(guild.members))
    return payload


@serve("GET", "/guilds/{guild_id}/preview")
def guild_preview(ctx: RequestContext) -> Any:
    guild = guild_of_bot(ctx)
    full = serializers.guild_create_payload(ctx.backend, guild)
    counts = {"approximate_member_count": len(guild.members), "approximate_presence_count": len(guild.members)}
    return {**{key: full[key] for key in IN_PREVIEW}, **counts}


@serve("GET", "/guilds/{guild_id}/members")
def list_members(ctx: RequestContext) -> Any:
    if not ctx.backend.application_may(GATEWAY_GUILD_MEMBERS, GATEWAY_GUILD_MEMBERS_LIMITED):
        raise errors.missing_access()
    limit = int(ctx.params.get("limit", 1))
    if not 1 <= limit <= 1000:
        raise wire_errors.field_error("limit", "NUMBER_TYPE_MAX", "int value should be between 1 and 1000.")
    guild_of_bot(ctx)
    return _simcord_list_members(ctx)


_simcord_list_members = simcord_handler("GET", "/guilds/{guild_id}/members")


@serve("GET", "/guilds/{guild_id}/members/search")
def search_members(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    guild = guild_of_bot(ctx)
    query, limit = str(ctx.params.get("query", "")).lower(), int(ctx.params.get("limit", 1))
    if not query:
        raise wire_errors.field_error("query", "BASE_TYPE_REQUIRED", "This field is required")
    found = [
        member
        for member in sorted(guild.members.values(), key=lambda member: member.user_id)
        if world.users[member.user_id].name.lower().startswith(query) or (member.nick or "").lower().startswith(query)
    ]
    return [serializers.member_payload(world, guild, member) for member in found[:limit]]


# --- channels and threads ---


@serve("PATCH", "/channels/{channel_id}")
def edit_channel(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    channel = world.get_channel(ctx.int_arg("channel_id"))
    if not channel.is_thread:
        return _simcord_edit_channel(ctx)
    ctx.require_channel_permissions(channel.id)
    if channel.owner_id != world.bot_user.id or "locked" in ctx.body():
        ctx.require_channel_permissions(channel.id, "manage_threads")
    body = ctx.fields(
        "name",
        "archived",
        "locked",
        "auto_archive_duration",
        "invitable",
        "rate_limit_per_user",
        "applied_tags",
        "flags",
    )
    metadata = channel.thread_metadata
    if metadata is not None and metadata.archived and body.get("archived") is not False:
        raise BackendError(400, 50083, "Tried to perform an operation on an archived thread")
    changes = {key: body[key] for key in ("name", "rate_limit_per_user") if key in body}
    if "applied_tags" in body:
        changes["applied_tags"] = [int(tag) for tag in body["applied_tags"]]
    settings = {key: body[key] for key in ("archived", "locked", "auto_archive_duration", "invitable") if key in body}
    return serializers.channel_payload(world, world.edit_channel(channel.id, changes, thread_metadata=settings))


_simcord_edit_channel = simcord_handler("PATCH", "/channels/{channel_id}")


@serve("DELETE", "/channels/{channel_id}")
def delete_channel(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    channel = world.get_channel(ctx.int_arg("channel_id"))
    if channel.guild_id is None:
        return serializers.channel_payload(world, channel)
    if not channel.is_thread:
        return _simcord_delete_channel(ctx)
    ctx.require_channel_permissions(channel.id, "manage_threads")
    payload = serializers.channel_payload(world, channel)
    world.delete_channel(channel.id)
    return payload


_simcord_delete_channel = simcord_handler("DELETE", "/channels/{channel_id}")


def check_thread_body(body: dict[str, Any]) -> tuple[str, int]:
    """The name and the archive time of a new thread."""
    name = body.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        raise wire_errors.field_error("name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    minutes = int(body.get("auto_archive_duration") or 4320)
    if minutes not in ARCHIVE_MINUTES:
        choices = ", ".join(str(choice) for choice in ARCHIVE_MINUTES)
        raise wire_errors.field_error(
            "auto_archive_duration", "BASE_TYPE_CHOICES", f"Value must be one of {{{choices}}}."
        )
    return name, minutes


@serve("POST", "/channels/{channel_id}/threads")
def create_thread(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    channel = ctx.require_channel_permissions(ctx.int_arg("channel_id"))
    name, minutes = check_thread_body(ctx.body())
    if channel.type == ChannelType.FORUM:
        return _create_post(ctx, channel, name, minutes)
    if channel.type not in (ChannelType.TEXT, ChannelType.NEWS):
        raise errors.cannot_execute_on_channel_type()
    body = ctx.fields("type", ignore=("name", "auto_archive_duration", "invitable", "rate_limit_per_user"))
    kind = int(body.get("type", ChannelType.PRIVATE_THREAD))
    private = kind == ChannelType.PRIVATE_THREAD
    ctx.require_channel_permissions(channel.id, "create_private_threads" if private else "create_public_threads")
    thread = world.create_thread(channel.id, name, world.bot_user.id, type=kind, auto_archive_duration=minutes)
    return Created(_own_thread(world, thread))


def _create_post(ctx: RequestContext, forum: Channel, name: str, minutes: int) -> Created:
    world: World = ctx.backend
    ctx.require_channel_permissions(forum.id, "send_messages")
    body = ctx.fields(
        "message", "applied_tags", ignore=("name", "auto_archive_duration", "rate_limit_per_user", "type")
    )
    content = body.get("message")
    if not isinstance(content, dict):
        raise wire_errors.field_error("message", "BASE_TYPE_REQUIRED", "This field is required")
    tags = [int(tag) for tag in body.get("applied_tags") or []]
    available = {int(tag["id"]) for tag in forum.available_tags}
    if len(tags) > 5 or any(tag not in available for tag in tags):
        raise wire_errors.field_error("applied_tags", "BASE_TYPE_CHOICES", "Unknown or too many tags.")
    check_body(ctx, content)
    check_contents(ctx, forum, content)
    starter, contents = prepare_bot_message(ctx, forum.id, body=content)
    attach_uploads(ctx, starter.id, starter, contents)
    thread = world.open_forum_post(forum.id, name, starter, applied_tags=tags, archive_minutes=minutes)
    return Created({**_own_thread(world, thread), "message": message_response(ctx, starter)})


@serve("POST", "/channels/{channel_id}/messages/{message_id}/threads")
def create_thread_from_message(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    channel = ctx.require_channel_permissions(ctx.int_arg("channel_id"), "create_public_threads")
    message = ctx.require_message(channel.id, ctx.int_arg("message_id"), "read_message_history")
    if message.id in world.channels:
        raise BackendError(400, 160004, "A thread has already been created for this message")
    if channel.type not in (ChannelType.TEXT, ChannelType.NEWS):
        raise errors.cannot_execute_on_channel_type()
    name, minutes = check_thread_body(ctx.body())
    thread = world.create_thread(
        channel.id, name, world.bot_user.id, message_id=message.id, auto_archive_duration=minutes
    )
    return Created(_own_thread(world, thread))


def _own_thread(world: World, thread: Channel) -> dict[str, Any]:
    """A thread with the bot's membership in it."""
    payload = serializers.thread_payload(world, thread)
    if world.bot_user.id in thread.thread_members:
        payload = {**payload, "member": serializers.thread_member_payload(thread, world.bot_user.id)}
    return payload


@serve("GET", "/channels/{channel_id}/thread-members")
def thread_members(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    ctx.require_channel_permissions(ctx.int_arg("channel_id"))
    thread = world.get_thread(ctx.int_arg("channel_id"))
    guild = world.get_guild(thread.guild_id or 0)
    after, limit = int(ctx.params.get("after", 0)), int(ctx.params.get("limit", 100))
    listed = []
    for user_id in sorted(user for user in thread.thread_members if user > after)[:limit]:
        entry = serializers.thread_member_payload(thread, user_id)
        if flag_of(ctx, "with_member") and user_id in guild.members:
            entry = {**entry, "member": serializers.member_payload(world, guild, guild.members[user_id])}
        listed.append(entry)
    return listed


@serve("GET", "/guilds/{guild_id}/threads/active")
def active_threads(ctx: RequestContext) -> Any:
    guild_of_bot(ctx)
    return {**_simcord_active_threads(ctx), "has_more": False}


_simcord_active_threads = simcord_handler("GET", "/guilds/{guild_id}/threads/active")
