"""Checks this server's answers against Discord's own OpenAPI document.

    python check_spec.py SPEC.json

It starts the server, calls the main routes, and compares each answer with the schema that the document gives for that
route and status. It prints what differs and exits 1, or `N answers fit` and exits 0.

It knows the part of JSON Schema that the document uses for answers: references, unions, types, required properties,
enumerations, items. It does not check formats, patterns, lengths, request bodies, or gateway events.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


#: The document knows replies only; forwards are in Discord's written documentation.
LACKING_IN_THE_DOCUMENT = "message_reference.type: 1 is not 0"


class Spec:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def answer_schema(self, method: str, template: str, status: int) -> dict[str, Any] | None:
        operation = self.document["paths"][template][method.lower()]
        content = operation["responses"].get(str(status), {}).get("content", {})
        return content.get("application/json", {}).get("schema")

    def problems(self, schema: dict[str, Any], value: Any, where: str = "$") -> Iterator[str]:
        """What in the value does not fit the schema."""
        if "$ref" in schema:
            yield from self.problems(self._resolve(schema["$ref"]), value, where)
        for part in schema.get("allOf", ()):
            yield from self.problems(part, value, where)
        for union in ("oneOf", "anyOf"):
            if union in schema and schema[union]:
                yield from self._problems_of_union(schema[union], value, where)
        if "type" in schema and not self._has_type(schema["type"], value):
            yield f"{where}: {json.dumps(value)[:60]} is not of the type {schema['type']}"
            return
        if schema.get("enum") and value not in schema["enum"]:
            yield f"{where}: {value!r} is none of {schema['enum'][:8]}"
        if "const" in schema and value != schema["const"]:
            yield f"{where}: {value!r} is not {schema['const']!r}"
        if isinstance(value, dict):
            for name in schema.get("required", ()):
                if name not in value:
                    yield f"{where}: the property {name} is missing"
            for name, part in schema.get("properties", {}).items():
                if name in value:
                    yield from self.problems(part, value[name], f"{where}.{name}")
        if isinstance(value, list) and isinstance(schema.get("items"), dict):
            for index, item in enumerate(value):
                yield from self.problems(schema["items"], item, f"{where}[{index}]")

    def _problems_of_union(self, parts: list[dict[str, Any]], value: Any, where: str) -> Iterator[str]:
        attempts = [list(self.problems(part, value, where)) for part in parts]
        if all(attempts):
            yield from min(attempts, key=len)

    def _resolve(self, reference: str) -> dict[str, Any]:
        node: Any = self.document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        return node

    @staticmethod
    def _has_type(wanted: str | list[str], value: Any) -> bool:
        names = wanted if isinstance(wanted, list) else [wanted]
        if isinstance(value, bool):
            return "boolean" in names
        return any(isinstance(value, TYPES[name]) for name in names)


class Checker:
    """Calls routes and collects what does not fit."""

    def __init__(self, spec: Spec, session: aiohttp.ClientSession, start: dict[str, Any]) -> None:
        self.spec = spec
        self.session = session
        self.start = start
        self.base = f"http://127.0.0.1:{start['port']}"
        self.fits = 0
        self.differences: list[str] = []

    async def control(self, op: str, /, **body: Any) -> dict[str, Any]:
        async with self.session.post(f"{self.base}/_test/{op}", json=body) as response:
            answer = await response.json()
        if response.status != 200:
            raise RuntimeError(f"control {op}: {answer['error']}")
        return answer

    async def call(self, method: str, template: str, body: Any = None, query: str = "", **values: Any) -> Any:
        """One call; `values` fill the template."""
        path = template.format(**values) + query
        headers = {"Authorization": f"Bot {self.start['token']}"}
        async with self.session.request(method, f"{self.base}/api/v10{path}", json=body, headers=headers) as response:
            text = await response.text()
        answer = json.loads(text) if text else None
        if response.status >= 400:
            self.differences.append(f"{method} {template}: status {response.status}, {text[:300]}")
            return answer
        schema = self.spec.answer_schema(method, template, response.status)
        if schema is None:
            documented = sorted(self.spec.document["paths"][template][method.lower()]["responses"])
            if answer is not None or str(response.status) not in documented:
                self.differences.append(f"{method} {template}: status {response.status}; documented are {documented}")
            else:
                self.fits += 1
            return answer
        found = [text for text in self.spec.problems(schema, answer) if not text.endswith(LACKING_IN_THE_DOCUMENT)]
        self.differences.extend(f"{method} {template}: {problem}" for problem in found)
        self.fits += not found
        return answer


async def exercise(check: Checker) -> None:
    guild, channel, user, app = (check.start[key] for key in ("guild", "channel", "user", "application"))
    await check.control("limits", enabled=False)
    emoji = await check.control("emoji", name="party")
    await check.control("sticker", name="wave")
    said = await check.control(
        "say", text=f"hello <@{check.start['bot']}>", files=[{"name": "a.txt", "text": "a"}], sticker="wave"
    )
    await check.control("react", id=said["id"], emoji=emoji)

    await check.call("GET", "/gateway")
    await check.call("GET", "/gateway/bot")
    await check.call("GET", "/users/@me")
    await check.call("GET", "/users/{user_id}", user_id=user)
    await check.call("GET", "/users/@me/guilds", query="?with_counts=true")
    await check.call("GET", "/applications/@me")
    await check.call("GET", "/oauth2/applications/@me")
    await check.call("GET", "/guilds/{guild_id}", guild_id=guild, query="?with_counts=true")
    await check.call("GET", "/guilds/{guild_id}/channels", guild_id=guild)
    await check.call("GET", "/guilds/{guild_id}/roles", guild_id=guild)
    await check.call("GET", "/guilds/{guild_id}/emojis", guild_id=guild)
    await check.call("GET", "/guilds/{guild_id}/members", guild_id=guild, query="?limit=10")
    await check.call("GET", "/guilds/{guild_id}/members/search", guild_id=guild, query="?limit=10&query=al")
    await check.call("GET", "/guilds/{guild_id}/members/{user_id}", guild_id=guild, user_id=user)
    await check.call("GET", "/channels/{channel_id}", channel_id=channel)
    dm = await check.call("POST", "/users/@me/channels", {"recipient_id": user})
    await check.call("GET", "/channels/{channel_id}", channel_id=dm["id"])

    await _messages(check, channel, said["id"], emoji, user)
    await _threads(check, guild, channel, said["id"], user)
    await _webhooks(check, channel)
    await _interactions(check, app, guild, channel)
    await check.call("POST", "/channels/{channel_id}/invites", {"max_age": 0}, channel_id=channel)


async def _messages(check: Checker, channel: str, said: str, emoji: dict[str, Any], user: str) -> None:
    message = "/channels/{channel_id}/messages/{message_id}"
    sent = await check.call(
        "POST",
        "/channels/{channel_id}/messages",
        {
            "content": "hi",
            "nonce": "n",
            "enforce_nonce": True,
            "embeds": [{"title": "t", "description": "d"}],
            "message_reference": {"message_id": said},
            "components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "Go", "custom_id": "go"}]}],
        },
        channel_id=channel,
    )
    at = {"channel_id": channel, "message_id": sent["id"]}
    await check.call(
        "POST",
        "/channels/{channel_id}/messages",
        {"message_reference": {"type": 1, "message_id": said, "channel_id": channel}},
        channel_id=channel,
    )
    poll = {"question": {"text": "q"}, "answers": [{"poll_media": {"text": "a"}}], "duration": 1, "layout_type": 1}
    asked = await check.call("POST", "/channels/{channel_id}/messages", {"poll": poll}, channel_id=channel)
    await check.control("vote", id=asked["id"], answer=1)
    await check.call(
        "GET",
        "/channels/{channel_id}/polls/{message_id}/answers/{answer_id}",
        channel_id=channel,
        message_id=asked["id"],
        answer_id=1,
    )
    await check.call(
        "POST", "/channels/{channel_id}/polls/{message_id}/expire", channel_id=channel, message_id=asked["id"]
    )
    await check.call("PATCH", message, {"content": "changed"}, **at)
    await check.call("GET", message, **at)
    reaction = message + "/reactions/{emoji_name}"
    await check.call("PUT", reaction + "/@me", emoji_name=f"party:{emoji['id']}", **at)
    await check.call("GET", reaction, emoji_name=f"party:{emoji['id']}", **at)
    await check.call("DELETE", reaction + "/@me", emoji_name=f"party:{emoji['id']}", **at)
    await check.call("PUT", "/channels/{channel_id}/messages/pins/{message_id}", **at)
    await check.call("GET", "/channels/{channel_id}/messages/pins", channel_id=channel)
    await check.call("GET", "/channels/{channel_id}/pins", channel_id=channel)
    await check.call("GET", "/channels/{channel_id}/messages", channel_id=channel)
    await check.call("POST", "/channels/{channel_id}/typing", channel_id=channel)
    await check.call("DELETE", message, **at)


async def _threads(check: Checker, guild: str, channel: str, said: str, user: str) -> None:
    await check.call(
        "POST",
        "/channels/{channel_id}/messages/{message_id}/threads",
        {"name": "a"},
        channel_id=channel,
        message_id=said,
    )
    thread = await check.call("POST", "/channels/{channel_id}/threads", {"name": "b", "type": 11}, channel_id=channel)
    forum = await check.control("channel", name="ideas", type="forum", tags=["bug"])
    await check.call("GET", "/channels/{channel_id}", channel_id=forum["id"])
    await check.call(
        "POST", "/channels/{channel_id}/threads", {"name": "c", "message": {"content": "first"}}, channel_id=forum["id"]
    )
    await check.call("GET", "/guilds/{guild_id}/threads/active", guild_id=guild)
    await check.call("PUT", "/channels/{channel_id}/thread-members/{user_id}", channel_id=thread["id"], user_id=user)
    await check.call("GET", "/channels/{channel_id}/thread-members", channel_id=thread["id"], query="?with_member=true")
    await check.call("PATCH", "/channels/{channel_id}", {"archived": True}, channel_id=thread["id"])
    await check.call("GET", "/channels/{channel_id}/threads/archived/public", channel_id=channel)
    await check.call("GET", "/channels/{channel_id}/messages/{message_id}", channel_id=channel, message_id=said)


async def _webhooks(check: Checker, channel: str) -> None:
    hook = await check.call("POST", "/channels/{channel_id}/webhooks", {"name": "Relay"}, channel_id=channel)
    await check.call("GET", "/channels/{channel_id}/webhooks", channel_id=channel)
    execute = "/webhooks/{webhook_id}/{webhook_token}"
    at = {"webhook_id": hook["id"], "webhook_token": hook["token"]}
    sent = await check.call("POST", execute, {"content": "x", "username": "Bob"}, query="?wait=true", **at)
    await check.call("PATCH", execute + "/messages/{message_id}", {"content": "y"}, message_id=sent["id"], **at)
    await check.call("DELETE", execute + "/messages/{message_id}", message_id=sent["id"], **at)


async def _interactions(check: Checker, app: str, guild: str, channel: str) -> None:
    commands = "/applications/{application_id}/guilds/{guild_id}/commands"
    await check.call("PUT", commands, [{"name": "ping", "description": "Ping"}], application_id=app, guild_id=guild)
    await check.call("GET", commands, application_id=app, guild_id=guild)
    made = await check.control("interact", kind="slash", name="ping")
    callback = "/interactions/{interaction_id}/{interaction_token}/callback"
    at = {"interaction_id": made["id"], "interaction_token": made["token"]}
    await check.call("POST", callback, {"type": 4, "data": {"content": "pong"}}, query="?with_response=true", **at)
    followup = {"webhook_id": app, "webhook_token": made["token"]}
    await check.call("GET", "/webhooks/{webhook_id}/{webhook_token}/messages/@original", **followup)
    await check.call("POST", "/webhooks/{webhook_id}/{webhook_token}", {"content": "more"}, **followup)


async def main(spec_file: str) -> int:
    spec = Spec(json.loads(Path(spec_file).read_text()))
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-B",
        str(Path(__file__).with_name("server.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdin is not None and server.stdout is not None
    start = json.loads(await server.stdout.readline())
    try:
        async with aiohttp.ClientSession() as session:
            check = Checker(spec, session, start)
            await exercise(check)
    finally:
        server.stdin.close()
        await server.wait()
    for difference in check.differences:
        print(difference)
    print(f"{check.fits} answers fit, {len(check.differences)} differences")
    return 1 if check.differences else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python check_spec.py SPEC.json")
    sys.exit(asyncio.run(main(sys.argv[1])))
