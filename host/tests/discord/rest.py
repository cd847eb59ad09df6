"""The HTTP API under /api/v10: authorisation, bodies, rate limits, and the hand-over to simcord's routes.

An unknown route answers 404 as Discord does, and tells of it on stderr with a line that begins `PARITY GAP`, so that a
missing part of this server is not mistaken for behaviour of Discord. The same line is written for a field that a known
route does not read.

What a route does is simcord's (or `gaps.py`'s) matter. A test can delay answers, or spoil them before or after the work.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import traceback
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from simcord.backend.errors import BackendError
from simcord.http import router

import wire_errors
from cdn import Upload
from gaps import Created
from gateway import Gateway
from payloads import ATTACHMENT_LIMIT
from ratelimits import RateLimits
from record import Record, described
from world import World

UNAUTHORIZED = {"message": "401: Unauthorized", "code": 0}
NOT_FOUND = {"message": "404: Not Found", "code": 0}
OPEN_PATHS = (
    re.compile(r"^/webhooks/\d+/[^/]+"),
    re.compile(r"^/interactions/\d+/[^/]+/callback$"),
    re.compile(r"^/gateway$"),
)
FILE_FIELD = re.compile(r"^files?\[(\d+)\]$")


@dataclass
class Fault:
    """Spoils the next requests that match. Without a status the connection is cut."""

    method: str
    path_prefix: str
    status: int | None
    count: int
    after_effect: bool

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and path.startswith(self.path_prefix)


@dataclass
class Body:
    json: Any
    uploads: list[Upload]
    field_names: list[str]


class Rest:
    def __init__(self, world: World, gateway: Gateway, record: Record) -> None:
        self.world = world
        self.gateway = gateway
        self.record = record
        self.limits = RateLimits()
        self.faults: list[Fault] = []
        self.latency_ms = 0
        self.answer_ms = 0
        self.file_limit = ATTACHMENT_LIMIT

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = _route_path(request)
        if self.latency_ms:
            await asyncio.sleep(self.latency_ms / 1000)
        try:
            body: Body | BackendError = await self._read(request)
        except BackendError as error:
            body = error
        response = self._answer(request, path, body)
        self._remember(request, path, body, response)
        if self.answer_ms:
            await asyncio.sleep(self.answer_ms / 1000)
        if response is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return response

    def _remember(
        self, request: web.Request, path: str, body: Body | BackendError, response: web.Response | None
    ) -> None:
        read = body if isinstance(body, Body) else Body(None, [], [])
        self.record.request(
            {
                **described(request),
                "path": path,
                "status": None if response is None else response.status,
                "json": read.json,
                "form": read.field_names,
                "files": [{"name": upload.filename, "size": upload.fp.getbuffer().nbytes} for upload in read.uploads],
            }
        )

    def _answer(self, request: web.Request, path: str, body: Body | BackendError) -> web.Response | None:
        """The answer, or nothing when the connection is to be cut."""
        if not self._authorized(request, path):
            return _json(401, UNAUTHORIZED)
        headers, refusal = self.limits.admit(request.method, path)
        if refusal is not None:
            return _json(429, refusal.body, refusal.headers)
        fault = self._next_fault(request.method, path)
        if fault is not None and not fault.after_effect:
            return _faulty(fault)
        if isinstance(body, BackendError):
            response = _json(*wire_errors.body_of(body), headers)
        else:
            response = self._dispatch(request, path, body, headers)
        return response if fault is None else _faulty(fault)

    def _authorized(self, request: web.Request, path: str) -> bool:
        if any(pattern.match(path) for pattern in OPEN_PATHS):
            return True
        return self.gateway.token_valid and request.headers.get("Authorization") == f"Bot {self.gateway.token}"

    def _next_fault(self, method: str, path: str) -> Fault | None:
        fault = next((fault for fault in self.faults if fault.matches(method, path)), None)
        if fault is not None:
            fault.count -= 1
            if fault.count <= 0:
                self.faults.remove(fault)
        return fault

    def _dispatch(self, request: web.Request, path: str, body: Body, headers: dict[str, str]) -> web.Response:
        if path in ("/gateway", "/gateway/bot") and request.method == "GET":
            return _json(200, self._gateway_info(path), headers)
        try:
            result = router.dispatch(
                self.world,
                request.method,
                path,
                json=body.json,
                params=dict(request.query),
                files=body.uploads,
                reason=request.headers.get("X-Audit-Log-Reason"),
                message_content_access=self.world.reads_content,
            )
        except router.RouteNotImplemented:
            print(f"PARITY GAP {request.method} {path}", file=sys.stderr, flush=True)
            return _json(404, NOT_FOUND, headers)
        except (router.UnsupportedField, NotImplementedError) as gap:
            print(f"PARITY GAP {request.method} {path}: {gap}", file=sys.stderr, flush=True)
            return _json(501, {"message": f"PARITY GAP: {gap}", "code": 0}, headers)
        except BackendError as error:
            return _json(*wire_errors.body_of(error), headers)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"INVALID VALUE {request.method} {path}", file=sys.stderr)
            traceback.print_exc()
            return _json(*wire_errors.body_of(wire_errors.from_exception(error, path)), headers)
        if result is None:
            return web.Response(status=204, headers=headers)
        if isinstance(result, Created):
            return _json(201, result.body, headers)
        return _json(200, result, headers)

    def _gateway_info(self, path: str) -> dict[str, Any]:
        if path == "/gateway":
            return {"url": self.gateway.url}
        limit = self.gateway.start_limit()
        return {"url": self.gateway.url, "shards": self.gateway.shards, "session_start_limit": limit}

    async def _read(self, request: web.Request) -> Body:
        if request.content_type.startswith("multipart/"):
            return await self._read_form(request)
        raw = await request.read() if request.can_read_body else b""
        if not raw:
            return Body(None, [], [])
        return Body(_parse(raw), [], [])

    async def _read_form(self, request: web.Request) -> Body:
        names: list[str] = []
        payload: Any = None
        scalars: dict[str, Any] = {}
        uploads: list[tuple[int, Upload]] = []
        async for part in await request.multipart():
            name = part.name or ""
            names.append(name)
            data = bytes(await part.read(decode=False))
            if name == "payload_json":
                payload = _parse(data)
            elif part.filename is not None:
                numbered = FILE_FIELD.match(name)
                index = int(numbered.group(1)) if numbered else len(uploads)
                uploads.append((index, Upload(part.filename, io.BytesIO(data))))
            else:
                scalars[name] = data.decode()
        if len(uploads) > 10:
            raise wire_errors.field_error("attachments", "BASE_TYPE_MAX_LENGTH", "Must be 10 or fewer in length.")
        if any(upload.fp.getbuffer().nbytes > self.file_limit for _, upload in uploads):
            raise BackendError(413, 40005, "Request entity too large")
        uploads.sort(key=lambda numbered: numbered[0])
        body = payload if payload is not None else scalars or None
        _describe(uploads, body)
        return Body(body, [upload for _, upload in uploads], names)


def _route_path(request: web.Request) -> str:
    """The path below the API's version, decoded segment by segment."""
    raw = request.raw_path.split("?", 1)[0].removeprefix("/api/v10").removeprefix("/api")
    return "/" + "/".join(unquote(segment).replace("/", "%2F") for segment in raw.strip("/").split("/"))


def _describe(uploads: list[tuple[int, Upload]], body: Any) -> None:
    """Give files what the body's `attachments` says of them."""
    body = body if isinstance(body, dict) else {}
    data = body.get("data") if isinstance(body.get("data"), dict) else {}
    message = body.get("message") if isinstance(body.get("message"), dict) else {}
    described = {
        str(entry.get("id")): entry
        for source in (body, data, message)
        for entry in source.get("attachments") or []
        if isinstance(entry, dict)
    }
    for index, upload in uploads:
        entry = described.get(str(index), {})
        upload.filename = entry.get("filename") or upload.filename
        upload.description = entry.get("description")
        upload.title = entry.get("title")
        upload.duration_secs = entry.get("duration_secs")
        upload.waveform = entry.get("waveform")


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise BackendError(400, 50109, "The request body contains invalid JSON.") from None


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer with Discord's bare content type, which some clients compare as a whole."""
    content = {"Content-Type": "application/json", **(headers or {})}
    return web.Response(status=status, body=json.dumps(body).encode(), headers=content)


def _faulty(fault: Fault) -> web.Response | None:
    if fault.status is None:
        return None
    return web.Response(status=fault.status, text="upstream connect error or disconnect/reset before headers")
