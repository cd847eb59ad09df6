"""Webhook and interaction routes: what simcord's versions leave out.

Webhooks: `wait`, threads by `thread_id` and `thread_name`, names that Discord refuses, components of the application's
own webhooks. Interactions: the callback answers 204 unless `with_response` is set, and is kept for tests.

It does not serve the formats of other products (`/slack`, `/github`).
"""

from __future__ import annotations

from typing import Any

from simcord.backend import errors, serializers
from simcord.backend.errors import BackendError
from simcord.backend.models import Channel, Message, Webhook
from simcord.enums import ChannelType
from simcord.http._helpers import message_edit_changes, message_response, prepare_bot_message
from simcord.http.router import RequestContext

import wire_errors
from gaps import flag_of, serve, simcord_handler
from gaps_messages import attach_uploads, check_thread_open, edit_fields
from world import World

IGNORED_BY_WEBHOOKS = ("message_reference", "sticker_ids", "nonce", "enforce_nonce", "thread_name", "applied_tags")
UPDATE_MESSAGE = 7
FORBIDDEN_IN_NAMES = ("clyde", "discord")

_simcord_execute = simcord_handler("POST", "/webhooks/{webhook_id}/{token}")
_simcord_edit_original = simcord_handler("PATCH", "/webhooks/{webhook_id}/{token}/messages/@original")
_simcord_callback = simcord_handler("POST", "/interactions/{interaction_id}/{token}/callback")
_simcord_message = {
    method: simcord_handler(method, "/webhooks/{webhook_id}/{token}/messages/{message_id}")
    for method in ("GET", "PATCH", "DELETE")
}


def is_interaction(ctx: RequestContext) -> bool:
    return ctx.args["token"] in ctx.backend.interaction_tokens


def webhook_of(ctx: RequestContext) -> Webhook:
    webhook = ctx.backend.get_webhook(ctx.int_arg("webhook_id"))
    if webhook.token != ctx.args["token"]:
        raise BackendError(401, 50027, "Invalid Webhook Token")
    return webhook


def target_channel(ctx: RequestContext, webhook: Webhook) -> Channel:
    """The webhook's channel, or the thread in it that the query names."""
    world: World = ctx.backend
    if "thread_id" not in ctx.params:
        return world.get_channel(webhook.channel_id)
    thread = world.get_channel(int(ctx.params["thread_id"]))
    if thread.parent_id != webhook.channel_id or not thread.is_thread:
        raise errors.unknown_channel()
    return thread


def check_name(name: Any) -> None:
    if name is None:
        return
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 80:
        raise wire_errors.field_error("username", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 80 in length.")
    for word in FORBIDDEN_IN_NAMES:
        if word in name.lower():
            raise wire_errors.field_error("username", "USERNAME_INVALID_CONTAINS", f'Username cannot contain "{word}"')


@serve("POST", "/webhooks/{webhook_id}/{token}")
def execute(ctx: RequestContext) -> Any:
    if is_interaction(ctx):
        return _simcord_execute(ctx)
    webhook = webhook_of(ctx)
    body = ctx.body()
    check_name(body.get("username"))
    channel = target_channel(ctx, webhook)
    post = _in_forum if channel.type == ChannelType.FORUM else _in_channel
    message = post(ctx, webhook, channel, body)
    return message_response(ctx, message, exempt_root=True) if flag_of(ctx, "wait") else None


def _prepare(ctx: RequestContext, webhook: Webhook, channel: Channel, body: dict[str, Any]) -> Message:
    read = {key: value for key, value in body.items() if key not in IGNORED_BY_WEBHOOKS}
    if webhook.creator_id != ctx.backend.bot_user.id and not flag_of(ctx, "with_components"):
        read.pop("components", None)
    message, contents = prepare_bot_message(
        ctx, channel.id, author_id=webhook.webhook_user_id, webhook_id=webhook.id, body=read, webhook_execute=True
    )
    message.author_name = message.author_name or webhook.name
    attach_uploads(ctx, channel.id, message, contents)
    return message


def _in_channel(ctx: RequestContext, webhook: Webhook, channel: Channel, body: dict[str, Any]) -> Message:
    if body.get("thread_name"):
        raise BackendError(400, 220003, "Webhooks can only create threads in forum channels")
    check_thread_open(ctx, channel, for_message=True)
    message = _prepare(ctx, webhook, channel, body)
    ctx.backend.unarchive_for_message(channel)
    return ctx.backend.commit_message(message)


def _in_forum(ctx: RequestContext, webhook: Webhook, forum: Channel, body: dict[str, Any]) -> Message:
    if not body.get("thread_name"):
        raise BackendError(400, 220001, "Webhooks posted to forum channels must have a thread_name or thread_id")
    message = _prepare(ctx, webhook, forum, body)
    tags = [int(tag) for tag in body.get("applied_tags") or []]
    ctx.backend.open_forum_post(forum.id, body["thread_name"], message, applied_tags=tags)
    return message


def _message_of(ctx: RequestContext) -> Message:
    webhook = webhook_of(ctx)
    message = ctx.backend.get_message(target_channel(ctx, webhook).id, ctx.int_arg("message_id"))
    if message.webhook_id != webhook.id:
        raise errors.unknown_message()
    return message


@serve("GET", "/webhooks/{webhook_id}/{token}/messages/{message_id}")
def get_message(ctx: RequestContext) -> Any:
    if is_interaction(ctx):
        return _simcord_message["GET"](ctx)
    return message_response(ctx, _message_of(ctx), exempt_root=True)


@serve("PATCH", "/webhooks/{webhook_id}/{token}/messages/{message_id}")
def edit_message(ctx: RequestContext) -> Any:
    if is_interaction(ctx):
        ctx.json = edit_fields(ctx.body())
        return _simcord_message["PATCH"](ctx)
    message = _message_of(ctx)
    changes = message_edit_changes(ctx, message, body=edit_fields(ctx.body()))
    edited = ctx.backend.edit_message(message.channel_id, message.id, changes)
    return message_response(ctx, edited, exempt_root=True)


@serve("PATCH", "/webhooks/{webhook_id}/{token}/messages/@original")
def edit_original(ctx: RequestContext) -> Any:
    ctx.json = edit_fields(ctx.body())
    return _simcord_edit_original(ctx)


@serve("DELETE", "/webhooks/{webhook_id}/{token}/messages/{message_id}")
def delete_message(ctx: RequestContext) -> Any:
    if is_interaction(ctx):
        return _simcord_message["DELETE"](ctx)
    message = _message_of(ctx)
    return ctx.backend.delete_message(message.channel_id, message.id)


@serve("POST", "/channels/{channel_id}/webhooks")
def create_webhook(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    channel = ctx.require_channel_permissions(ctx.int_arg("channel_id"), "manage_webhooks")
    body = ctx.fields("name", ignore=("avatar",))
    name = body.get("name")
    if not isinstance(name, str) or not 1 <= len(name.strip()) <= 80:
        raise wire_errors.field_error("name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 80 in length.")
    if any(word in name.lower() for word in FORBIDDEN_IN_NAMES):
        raise wire_errors.field_error("name", "WEBHOOK_INVALID_NAME", "Webhook name is not allowed.")
    webhook = world.create_webhook(channel.id, name, world.bot_user.id)
    world.emit("WEBHOOKS_UPDATE", {"guild_id": str(channel.guild_id), "channel_id": str(channel.id)})
    return serializers.webhook_payload(world, webhook)


@serve("POST", "/interactions/{interaction_id}/{token}/callback")
def callback(ctx: RequestContext) -> Any:
    world: World = ctx.backend
    body = ctx.body()
    if body.get("type") == UPDATE_MESSAGE and isinstance(body.get("data"), dict):
        ctx.json = {**body, "data": edit_fields(body["data"])}
    answer = _simcord_callback(ctx)
    world.interaction_callbacks.setdefault(ctx.int_arg("interaction_id"), []).append(body)
    return answer if flag_of(ctx, "with_response") else None
