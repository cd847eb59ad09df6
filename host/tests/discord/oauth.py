"""The installation of the bot by a user: the consent page, the exchange of the code, and who a bearer token is.

The user agrees at once; a test can make the next one refuse. Agreeing puts the bot into the guild that was asked for, or
into a new one, with the permissions that were asked for.

It checks no list of redirect addresses, issues no refreshed tokens, and lets no one but Alice sign in.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from simcord.backend import serializers

from gateway import Gateway
from world import BOT_PERMISSIONS, World

CLIENT_SECRET = "test-secret"
PATHS = ("/oauth2/authorize", "/oauth2/token", "/oauth2/@me")
TOKEN_SECONDS = 604_800


@dataclass
class Grant:
    guild_id: int | None
    redirect_uri: str
    scope: str


class OAuth:
    def __init__(self, world: World, gateway: Gateway) -> None:
        self.world = world
        self.gateway = gateway
        self.refuse_next = False
        self._codes: dict[str, Grant] = {}
        self._bearers: dict[str, Grant] = {}
        self._installs = 0

    def mount(self, app: web.Application) -> None:
        for prefix in ("", "/api", "/api/v10"):
            app.router.add_get(f"{prefix}/oauth2/authorize", self.authorize)
            app.router.add_post(f"{prefix}/oauth2/token", self.exchange)
            app.router.add_get(f"{prefix}/oauth2/@me", self.whoami)

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if query.get("client_id") != str(self.world.application_id):
            return web.json_response({"message": "Unknown Application", "code": 10002}, status=404)
        redirect = query.get("redirect_uri")
        scope = query.get("scope", "")
        if not scope:
            return web.json_response({"error": "invalid_scope", "error_description": "Missing scope."}, status=400)
        if self.refuse_next:
            self.refuse_next = False
            refusal = {
                "error": "access_denied",
                "error_description": "The resource owner or authorization server denied the request",
                "state": query.get("state", ""),
            }
            return _go_to(redirect, refusal)
        permissions = int(query.get("permissions") or BOT_PERMISSIONS)
        guild_id = None
        if "bot" in scope.split():
            guild_id = self._install(query.get("guild_id"), permissions)
            if guild_id is None:
                return web.json_response({"message": "Unknown Guild", "code": 10004}, status=404)
        answer: dict[str, str] = {}
        if query.get("response_type") == "code":
            answer["code"] = secrets.token_hex(15)
            self._codes[answer["code"]] = Grant(guild_id, redirect or "", scope)
        if "state" in query:
            answer["state"] = query["state"]
        if guild_id is not None:
            answer.update(guild_id=str(guild_id), permissions=str(permissions))
        return _go_to(redirect, answer)

    def _install(self, wanted: str | None, permissions: int) -> int | None:
        if wanted is None:
            self._installs += 1
            name = f"Installed Guild {self._installs}"
            return self.world.open_guild(name, members=[self.world.alice], bot_permissions=permissions).id
        guild = self.world.guilds.get(int(wanted))
        if guild is None:
            return None
        self.world.edit_role(guild.id, self.world.bot_role(guild).id, {"permissions": permissions})
        return guild.id

    async def exchange(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        if self._client(request, form) != (str(self.world.application_id), CLIENT_SECRET):
            return web.json_response({"error": "invalid_client"}, status=401)
        if form.get("grant_type") != "authorization_code":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        grant = self._codes.pop(str(form.get("code")), None)
        if grant is None:
            return _invalid_grant('Invalid "code" in request.')
        if grant.redirect_uri and form.get("redirect_uri") != grant.redirect_uri:
            return _invalid_grant('Invalid "redirect_uri" in request.')
        token = secrets.token_urlsafe(22)
        self._bearers[token] = grant
        answer: dict[str, Any] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "refresh_token": secrets.token_urlsafe(22),
            "scope": grant.scope,
        }
        if grant.guild_id is not None and grant.guild_id in self.world.guilds:
            payload = dict(serializers.guild_create_payload(self.world, self.world.guilds[grant.guild_id]))
            for key in (
                "channels",
                "threads",
                "members",
                "presences",
                "voice_states",
                "joined_at",
                "unavailable",
                "large",
            ):
                payload.pop(key, None)
            answer["guild"] = payload
        return web.json_response(answer)

    @staticmethod
    def _client(request: web.Request, form: dict[str, Any]) -> tuple[str, str]:
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return str(form.get("client_id")), str(form.get("client_secret"))
        try:
            name, _, secret = base64.b64decode(encoded).decode().partition(":")
        except ValueError:
            return "", ""
        return name, secret

    async def whoami(self, request: web.Request) -> web.Response:
        grant = self._bearers.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if grant is None:
            return web.json_response({"message": "401: Unauthorized", "code": 0}, status=401)
        answer: dict[str, Any] = {
            "application": {
                "id": str(self.world.application_id),
                "name": self.world.bot_user.name,
                "icon": None,
                "description": "",
                "bot_public": True,
                "bot_require_code_grant": False,
                "verify_key": "0" * 64,
                "flags": self.world.application_flags,
            },
            "scopes": grant.scope.split(),
            "expires": self.world.iso_after(TOKEN_SECONDS),
        }
        if "identify" in answer["scopes"]:
            answer["user"] = serializers.user_payload(self.world.alice)
        return web.json_response(answer)


def _invalid_grant(description: str) -> web.Response:
    return web.json_response({"error": "invalid_grant", "error_description": description}, status=400)


def _go_to(redirect: str | None, answer: dict[str, str]) -> web.Response:
    if not redirect:
        return web.Response(text="Authorized. You may close this page.")
    joint = "&" if "?" in redirect else "?"
    return web.Response(status=302, headers={"Location": f"{redirect}{joint}{urlencode(answer)}"})
