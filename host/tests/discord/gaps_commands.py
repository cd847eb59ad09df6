"""Application commands: Discord's rules for names and descriptions, and the routes for single commands.

It does not check localizations, choices, or the order of required options.
"""

from __future__ import annotations

import re
from typing import Any

from simcord.backend import errors
from simcord.backend.errors import BackendError
from simcord.backend.ops.commands import COMMAND_FIELDS
from simcord.http.router import RequestContext

from gaps import Created, serve
from world import World

NAME = re.compile(r"^[-_'\w\u0900-\u097F\u0E00-\u0E7F]{1,32}$")
CHAT_INPUT = 1
SUBCOMMANDS = (1, 2)
MOST_COMMANDS = {1: 100, 2: 15, 3: 15}
READ_BUT_NOT_KEPT = ("id", "application_id", "version", "guild_id", "nsfw", "handler", "dm_permission")
GLOBAL = "/applications/{application_id}/commands"
IN_GUILD = "/applications/{application_id}/guilds/{guild_id}/commands"


def scope_of(ctx: RequestContext) -> int | None:
    """The guild of the route, or nothing for global commands; checks the application's id."""
    if ctx.int_arg("application_id") != ctx.backend.application_id:
        raise BackendError(403, 20012, "You are not authorized to perform this action on this application")
    if "guild_id" not in ctx.args:
        return None
    if ctx.int_arg("guild_id") not in ctx.backend.guilds:
        raise errors.missing_access()
    return ctx.int_arg("guild_id")


def problems_of(command: Any) -> dict[str, Any]:
    """What is wrong with a command or an option, keyed by field as Discord does; empty if nothing is."""
    found: dict[str, Any] = {}
    kind = command.get("type") or CHAT_INPUT
    name = command.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 32:
        found["name"] = _problem("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 32 in length.")
    elif kind == CHAT_INPUT and (not NAME.match(name) or name != name.lower()):
        found["name"] = _problem("APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
    description = command.get("description") or ""
    if kind == CHAT_INPUT and not 1 <= len(description) <= 100:
        found["description"] = _problem("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    if kind != CHAT_INPUT and description:
        found["description"] = _problem(
            "APPLICATION_COMMAND_DESCRIPTION_FORBIDDEN", "Context menus have no description"
        )
    options = _problems_of_options(command.get("options") or [])
    if options:
        found["options"] = options
    return found


def _problems_of_options(options: list[Any]) -> dict[str, Any]:
    if len(options) > 25:
        return _problem("BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")
    names = [option.get("name") for option in options]
    if len(set(names)) != len(names):
        return _problem("APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS", "Option name already exists")
    found: dict[str, Any] = {}
    for index, option in enumerate(options):
        wrong = problems_of({**option, "type": CHAT_INPUT})
        if wrong:
            found[str(index)] = wrong
    return found


def _problem(code: str, message: str) -> dict[str, Any]:
    return {"_errors": [{"code": code, "message": message}]}


def _invalid(tree: dict[str, Any]) -> BackendError:
    return BackendError(400, 50035, "Invalid Form Body", errors=tree)


def _overwrite(ctx: RequestContext, scope: int | None, commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    world: World = ctx.backend
    kept = []
    for command in commands:
        bare = {key: value for key, value in command.items() if key not in READ_BUT_NOT_KEPT}
        kept.append(ctx.fields(*COMMAND_FIELDS, body=bare))
    registered = world.register_commands(scope, kept)
    for stored, sent in zip(registered, commands, strict=True):
        stored["version"] = str(world.snowflake())
        stored["nsfw"] = bool(sent.get("nsfw", False))
        if stored["type"] != CHAT_INPUT:
            stored.pop("options", None)
    return registered


def _put(ctx: RequestContext) -> Any:
    scope = scope_of(ctx)
    commands = ctx.json
    if not isinstance(commands, list) or not all(isinstance(command, dict) for command in commands):
        raise _invalid(_problem("LIST_TYPE_CONVERT", "Only iterables may be used in a ListType"))
    wrong = {str(index): tree for index, command in enumerate(commands) if (tree := problems_of(command))}
    if wrong:
        raise _invalid(wrong)
    keys = [(command["name"], command.get("type") or CHAT_INPUT) for command in commands]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            doubled = _problem("APPLICATION_COMMANDS_DUPLICATE_NAME", "Application command names must be unique")
            raise _invalid({str(index): {"name": doubled}})
    for kind, most in MOST_COMMANDS.items():
        if sum(1 for key in keys if key[1] == kind) > most:
            raise BackendError(400, 30032, f"Maximum number of application commands reached ({most})")
    return _overwrite(ctx, scope, commands)


def _list(ctx: RequestContext) -> Any:
    return list(ctx.backend.commands.get(scope_of(ctx), {}).values())


def _create(ctx: RequestContext) -> Any:
    scope = scope_of(ctx)
    command = ctx.body()
    wrong = problems_of(command)
    if wrong:
        raise _invalid(wrong)
    key = (command["name"], command.get("type") or CHAT_INPUT)
    known = ctx.backend.commands.get(scope, {})
    stored = _overwrite(ctx, scope, [*(other for name, other in known.items() if name != key), command])[-1]
    return stored if key in known else Created(stored)


def _find(ctx: RequestContext) -> tuple[int | None, tuple[str, int], dict[str, Any]]:
    scope = scope_of(ctx)
    for key, command in ctx.backend.commands.get(scope, {}).items():
        if command["id"] == ctx.args["command_id"]:
            return scope, key, command
    raise BackendError(404, 10063, "Unknown application command")


def _get(ctx: RequestContext) -> Any:
    return _find(ctx)[2]


def _edit(ctx: RequestContext) -> Any:
    _, _, command = _find(ctx)
    changed = {**command, **ctx.body()}
    wrong = problems_of(changed)
    if wrong:
        raise _invalid(wrong)
    command.update(ctx.body(), version=str(ctx.backend.snowflake()))
    return command


def _delete(ctx: RequestContext) -> None:
    scope, key, _ = _find(ctx)
    del ctx.backend.commands[scope][key]


for _base in (GLOBAL, IN_GUILD):
    serve("PUT", _base)(_put)
    serve("GET", _base)(_list)
    serve("POST", _base)(_create)
    serve("GET", f"{_base}/{{command_id}}")(_get)
    serve("PATCH", f"{_base}/{{command_id}}")(_edit)
    serve("DELETE", f"{_base}/{{command_id}}")(_delete)
