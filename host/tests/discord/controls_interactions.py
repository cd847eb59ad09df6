"""Controls that play a person who runs a command, presses a button, chooses, or sends a form.

A command must be registered, and a component must be on its message and not disabled: a person could not do it
otherwise. The payload is simcord's; the values are given in plain JSON.

It does not check who may use a command, and uploads no files into a form.
"""

from __future__ import annotations

from typing import Any

from simcord import interactions as simcord_interactions
from simcord.backend import serializers
from simcord.backend.models import Channel, Message
from simcord.components import walk_components
from simcord.enums import SELECT_TYPES, AppCommandType, ComponentType, InteractionType, OptionType

from controls import ControlError, Panel, control, identifiers

TYPED_BY_VALUE = ((bool, OptionType.BOOLEAN), (int, OptionType.INTEGER), (float, OptionType.NUMBER))
# What the value of an option or of a menu stands for; "mentionable" is a user or a role.
OPTION_STANDS_FOR = {
    OptionType.USER: "user",
    OptionType.CHANNEL: "channel",
    OptionType.ROLE: "role",
    OptionType.MENTIONABLE: "mentionable",
}
MENU_STANDS_FOR = {
    ComponentType.USER_SELECT: "user",
    ComponentType.CHANNEL_SELECT: "channel",
    ComponentType.ROLE_SELECT: "role",
    ComponentType.MENTIONABLE_SELECT: "mentionable",
}


@control("interact")
def interact(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    """{kind: slash|user|message|autocomplete|button|select|modal, channel?, user?, ...}

    slash: name ("parent sub" for a subcommand), options?: {name: value}; autocomplete: also focused: option name;
    user, message: name, target: id; button: message, custom_id; select: message, custom_id, values: [..];
    modal: custom_id, fields: {custom_id: value}, interaction?: the id of the interaction that showed it."""
    kinds = {
        "slash": _slash,
        "autocomplete": _slash,
        "user": _context_menu,
        "message": _context_menu,
        "button": _component,
        "select": _component,
        "modal": _modal,
    }
    build = kinds.get(body["kind"])
    if build is None:
        raise ControlError(f"'kind' must be one of {', '.join(kinds)}.")
    return build(panel, body)


@control("interaction")
def look(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{id} What the bot did with an interaction."""
    world = panel.world
    record = world.interactions.get(int(body["id"]))
    if record is None:
        raise ControlError(f"There is no interaction with the id {body['id']}.")
    stored = world.messages.get(record.channel_id, {})
    original = stored.get(record.message_id or 0)
    return {
        "id": str(record.id),
        "token": record.token,
        "responded": record.responded,
        "kind": record.response_kind,
        "loading": record.loading,
        "ephemeral": record.ephemeral,
        "callbacks": world.interaction_callbacks.get(record.id, []),
        "original": None if original is None else serializers.message_payload(world, original),
        "followups": [serializers.message_payload(world, stored[m]) for m in record.followup_ids if m in stored],
        "modal": record.modal,
        "choices": record.autocomplete_choices,
    }


@control("commands")
def commands(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{guild?} The registered commands, of one guild or the global ones."""
    scope = int(body["guild"]) if body.get("guild") else None
    return {"commands": list(panel.world.commands.get(scope, {}).values())}


def _send(
    panel: Panel,
    body: dict[str, Any],
    kind: InteractionType,
    channel: Channel,
    data: dict[str, Any],
    source: Message | None = None,
) -> dict[str, str]:
    user = panel.user(body)
    record, payload = simcord_interactions.base_payload(
        panel.world, type=kind, channel_id=channel.id, guild_id=channel.guild_id, user_id=user.id, data=data
    )
    if source is not None:
        record.source_message_id = source.id
        payload["message"] = serializers.message_payload(panel.world, source)
    panel.world.emit("INTERACTION_CREATE", payload)
    return {"id": str(record.id), "token": record.token}


# --- commands ---


def _registered(panel: Panel, name: str, channel: Channel, kind: AppCommandType) -> dict[str, Any]:
    command = panel.world.find_command(name, channel.guild_id, type=kind)
    if command is None:
        raise ControlError(f"No command named {name!r} of the type {kind.name} is registered here.")
    return command


def _slash(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    channel = panel.channel(body)
    root_name, *path = body["name"].split()
    root = _registered(panel, root_name, channel, AppCommandType.CHAT_INPUT)
    leaf, nesting = simcord_interactions.walk_to_subcommand(root, path)
    declared = {option["name"]: option for option in leaf.get("options") or []}
    resolved: dict[str, Any] = {}
    options = []
    for name, value in (body.get("options") or {}).items():
        kind = declared[name]["type"] if name in declared else _type_of(value)
        if kind in OPTION_STANDS_FOR:
            value = str(value)
            _resolve(panel, channel, OPTION_STANDS_FOR[kind], int(value), resolved)
        option = {"name": name, "type": int(kind), "value": value}
        if body["kind"] == "autocomplete" and body.get("focused") == name:
            option["focused"] = True
        options.append(option)
    data = _command_data(root)
    data["options"] = simcord_interactions.nest_options(root, nesting, options)
    if resolved:
        data["resolved"] = resolved
    autocomplete = body["kind"] == "autocomplete"
    kind = InteractionType.APPLICATION_COMMAND_AUTOCOMPLETE if autocomplete else InteractionType.APPLICATION_COMMAND
    return _send(panel, body, kind, channel, data)


def _command_data(command: dict[str, Any]) -> dict[str, Any]:
    data = {"id": command["id"], "name": command["name"], "type": int(command["type"])}
    if command.get("guild_id"):
        data["guild_id"] = command["guild_id"]
    return data


def _type_of(value: Any) -> OptionType:
    for python_type, option_type in TYPED_BY_VALUE:
        if isinstance(value, python_type):
            return option_type
    return OptionType.STRING


def _context_menu(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    channel = panel.channel(body)
    on_message = body["kind"] == "message"
    kind = AppCommandType.MESSAGE if on_message else AppCommandType.USER
    data = _command_data(_registered(panel, body["name"], channel, kind))
    data["target_id"] = str(body["target"])
    resolved: dict[str, Any] = {}
    if on_message:
        message = panel.message(body, "target")
        resolved["messages"] = {str(message.id): serializers.message_payload(panel.world, message)}
    else:
        _resolve(panel, channel, "user", int(body["target"]), resolved)
    data["resolved"] = resolved
    return _send(panel, body, InteractionType.APPLICATION_COMMAND, channel, data)


def _resolve(panel: Panel, channel: Channel, kind: str, identifier: int, resolved: dict[str, Any]) -> None:
    """Put what an id stands for into the block that interactions carry beside their values."""
    world, key = panel.world, str(identifier)
    guild = world.guilds.get(channel.guild_id or 0)
    if kind == "mentionable":
        kind = "user" if identifier in world.users else "role"
    if kind == "user":
        resolved.setdefault("users", {})[key] = serializers.user_payload(world.get_user(identifier))
        if guild is not None and identifier in guild.members:
            member = serializers.member_payload(world, guild, guild.members[identifier], with_user=False)
            permissions = str(world.compute_permissions(guild.id, identifier, channel.id))
            resolved.setdefault("members", {})[key] = {**member, "permissions": permissions}
    elif kind == "role" and guild is not None:
        resolved.setdefault("roles", {})[key] = serializers.role_payload(world.get_role(guild.id, identifier))
    elif kind == "channel" and guild is not None:
        payload = serializers.channel_payload(world, world.get_channel(identifier))
        permissions = str(world.compute_permissions(guild.id, panel.world.alice.id, identifier))
        resolved.setdefault("channels", {})[key] = {**payload, "permissions": permissions}


# --- components and forms ---


def _component(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    message = panel.message(body, "message")
    wanted = SELECT_TYPES if body["kind"] == "select" else (ComponentType.BUTTON,)
    component = next(
        (
            found
            for found in walk_components(message.components)
            if found.get("type") in wanted and found.get("custom_id") == body["custom_id"]
        ),
        None,
    )
    if component is None:
        raise ControlError(f"The message has no {body['kind']} with the custom_id {body['custom_id']!r}.")
    if component.get("disabled"):
        raise ControlError(f"The {body['kind']} {body['custom_id']!r} is disabled.")
    channel = panel.world.get_channel(message.channel_id)
    data: dict[str, Any] = {"custom_id": component["custom_id"], "component_type": int(component["type"])}
    if component.get("id"):
        data["id"] = component["id"]
    if body["kind"] == "select":
        _choose(panel, channel, component, body.get("values", []), data)
    return _send(panel, body, InteractionType.MESSAGE_COMPONENT, channel, data, message)


def _choose(panel: Panel, channel: Channel, menu: dict[str, Any], values: list[Any], data: dict[str, Any]) -> None:
    least, most = menu.get("min_values", 1), menu.get("max_values", 1)
    if not least <= len(values) <= most:
        raise ControlError(f"The menu takes from {least} to {most} values.")
    data["values"] = [str(value) for value in values]
    if menu["type"] == ComponentType.STRING_SELECT:
        known = {option["value"] for option in menu.get("options") or []}
        unknown = [value for value in data["values"] if value not in known]
        if unknown:
            raise ControlError(f"The menu has no option with the value {unknown[0]!r}.")
        return
    resolved: dict[str, Any] = {}
    for identifier in identifiers(values):
        _resolve(panel, channel, MENU_STANDS_FOR[menu["type"]], identifier, resolved)
    data["resolved"] = resolved


def _modal(panel: Panel, body: dict[str, Any]) -> dict[str, str]:
    source, shown = None, None
    channel = panel.channel(body)
    if body.get("interaction"):
        record = panel.world.interactions.get(int(body["interaction"]))
        if record is None or record.modal is None:
            raise ControlError("That interaction did not show a modal.")
        shown = record.modal
        channel = panel.world.get_channel(record.channel_id)
        source = panel.find_message(record.source_message_id) if record.source_message_id else None
        if body.get("custom_id", shown["custom_id"]) != shown["custom_id"]:
            raise ControlError(f"The modal shown has the custom_id {shown['custom_id']!r}.")
    fields = body.get("fields") or {}
    data = {
        "custom_id": shown["custom_id"] if shown else body["custom_id"],
        "components": _filled(shown["components"], fields) if shown else _rows(fields),
    }
    return _send(panel, body, InteractionType.MODAL_SUBMIT, channel, data, source)


def _rows(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """A form of text inputs, one per row."""
    return [
        {
            "type": 1,
            "id": 2 * index + 1,
            "components": [{"type": 4, "id": 2 * index + 2, "custom_id": name, "value": str(value)}],
        }
        for index, (name, value) in enumerate(fields.items())
    ]


def _filled(components: list[dict[str, Any]], fields: dict[str, Any]) -> list[dict[str, Any]]:
    """The shown form's components as Discord sends them back, with values."""
    filled = []
    for component in components:
        answer: dict[str, Any] = {"type": int(component["type"]), "id": component.get("id", 0)}
        if component["type"] == ComponentType.ACTION_ROW:
            answer["components"] = _filled(component["components"], fields)
        elif component["type"] == ComponentType.LABEL:
            answer["component"] = _filled([component["component"]], fields)[0]
        elif "custom_id" in component:
            value = fields.get(component["custom_id"], "")
            answer["custom_id"] = component["custom_id"]
            answer["values" if isinstance(value, list) else "value"] = value
        filled.append(answer)
    unknown = set(fields) - {found.get("custom_id") for found in walk_components(components)} - _label_ids(components)
    if unknown and any(component["type"] in (1, 18) for component in components):
        raise ControlError(f"The modal has no field {sorted(unknown)[0]!r}.")
    return filled


def _label_ids(components: list[dict[str, Any]]) -> set[str | None]:
    return {component["component"].get("custom_id") for component in components if "component" in component}
