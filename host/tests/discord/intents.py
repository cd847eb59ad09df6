"""Which gateway events a session gets, and in what shape.

The table of events and intents and the rules about message content are simcord's; this module only puts the number that
a client sends in IDENTIFY to use.

It does not know Discord's rule that an event about the bot itself may come without its intent.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import discord
from simcord import intents as rules

import world as state

if TYPE_CHECKING:
    from world import World

KNOWN_BITS = sum(1 << bit for bit in (*range(17), 20, 21, 24, 25))
PRIVILEGED = {
    1 << 1: (state.GATEWAY_GUILD_MEMBERS, state.GATEWAY_GUILD_MEMBERS_LIMITED),
    1 << 8: (state.GATEWAY_PRESENCE, state.GATEWAY_PRESENCE_LIMITED),
    1 << 15: (state.GATEWAY_MESSAGE_CONTENT, state.GATEWAY_MESSAGE_CONTENT_LIMITED),
}


def parse(value: int) -> discord.Intents:
    declared = discord.Intents.none()
    declared.value = value
    return declared


def disallowed(world: World, value: int) -> bool:
    """Whether the application may not use one of these privileged intents."""
    return any(value & bit and not world.application_may(*flags) for bit, flags in PRIVILEGED.items())


def wanted(event: str, payload: Mapping[str, Any], declared: discord.Intents) -> bool:
    gate = rules.required_intent(event, payload)
    return gate is None or getattr(declared, gate)


def shape_key(event: str, declared: discord.Intents) -> tuple[bool, bool]:
    """Sessions with the same key get the same payload of an event."""
    if event == "GUILD_CREATE":
        return (declared.guilds, declared.presences)
    if event in ("MESSAGE_CREATE", "MESSAGE_UPDATE", "INTERACTION_CREATE"):
        return (declared.message_content, False)
    return (True, False)


def shaped(world: World, event: str, payload: dict[str, Any], declared: discord.Intents) -> dict[str, Any]:
    """The payload without what this session may not see."""
    bot_id = world.bot_user.id
    if event == "GUILD_CREATE":
        payload = dict(payload)
        rules.prune_guild_create(payload, declared, bot_id)
        return payload
    if declared.message_content:
        return payload
    if event in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):
        payload = copy.deepcopy(payload)
        rules.censor_message(payload, bot_id, backend=world)
    elif event == "INTERACTION_CREATE":
        payload = copy.deepcopy(payload)
        _censor_interaction(world, payload, bot_id)
    return payload


def _censor_interaction(world: World, payload: dict[str, Any], bot_id: int) -> None:
    if isinstance(payload.get("message"), dict):
        rules.censor_message(payload["message"], bot_id, backend=world, exempt_root=True)
    data = payload.get("data") or {}
    for message_id, message in ((data.get("resolved") or {}).get("messages") or {}).items():
        chosen = str(data.get("target_id")) == str(message_id)
        rules.censor_message(message, bot_id, backend=world, exempt_root=chosen)
