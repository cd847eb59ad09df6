"""Attachment storage and its signed download addresses.

Files are kept in memory; every address carries `ex`, `is` and `hm` like the real content network, and an address without
a right signature answers 404, as an expired one does. A test can make one attachment misbehave while it is downloaded.

It does not resize pictures, does not serve avatars, and forgets everything when the process ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import mimetypes
import re
import struct
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from simcord.backend.cdn import CdnStore

SECRET = b"loopback"
LIFETIME_SECONDS = 24 * 3600
FILLER_BYTE = b"\0"


@dataclass
class Trouble:
    """What goes wrong when this attachment is downloaded."""

    more: int = 0
    stall_after: int | None = None
    gone: bool = False


@dataclass
class Upload:
    """One file of a request; `fp` and the first two names are what simcord's routes read."""

    filename: str
    fp: Any
    description: str | None = None
    title: str | None = None
    duration_secs: float | None = None
    waveform: str | None = None


def safe_filename(name: str) -> str:
    """The name that Discord would give the file: spaces and special characters are replaced or dropped."""
    cleaned = re.sub(r"[^A-Za-z0-9_.\-]", "", name.strip().replace(" ", "_")).lstrip(".")
    return cleaned or "unknown"


def content_type_of(filename: str) -> str:
    guessed = mimetypes.guess_type(filename)[0] or "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG picture; nothing for other formats."""
    if len(data) >= 24 and data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
        return struct.unpack(">II", data[16:24])
    return None


class Cdn(CdnStore):
    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.files: dict[int, tuple[str, bytes, str]] = {}
        self.troubles: dict[int, Trouble] = {}

    def store_attachment(
        self,
        attachment_id: int,
        channel_id: int,
        filename: str,
        data: bytes,
        description: str | None,
        *,
        content_type: str | None = None,
        announced_size: int | None = None,
    ) -> dict[str, Any]:
        name = safe_filename(filename)
        path = f"/cdn/attachments/{channel_id}/{attachment_id}/{name}"
        kind = content_type or content_type_of(name)
        self.files[attachment_id] = (path, data, kind)
        url = f"{self.base}{path}?{self.signature(path)}"
        payload: dict[str, Any] = {
            "id": str(attachment_id),
            "filename": name,
            "size": len(data) if announced_size is None else announced_size,
            "url": url,
            "proxy_url": url,
            "content_type": kind,
            "content_scan_version": 0,
        }
        if name != filename:
            payload["title"] = filename.rsplit(".", 1)[0]
        if description is not None:
            payload["description"] = description
        size = png_size(data)
        if size is not None:
            payload["width"], payload["height"] = size
            payload["placeholder_version"] = 1
        return payload

    def store_upload(self, attachment_id: int, channel_id: int, upload: Upload, data: bytes) -> dict[str, Any]:
        payload = self.store_attachment(attachment_id, channel_id, upload.filename, data, upload.description)
        for key in ("title", "duration_secs", "waveform"):
            value = getattr(upload, key)
            if value is not None:
                payload[key] = value
        return payload

    def signature(self, path: str) -> str:
        issued = int(time.time())
        expires = issued + LIFETIME_SECONDS
        return f"ex={expires:x}&is={issued:x}&hm={self._digest(path, f'{expires:x}', f'{issued:x}')}&"

    @staticmethod
    def _digest(path: str, expires: str, issued: str) -> str:
        return hmac.new(SECRET, f"{path}|{expires}|{issued}".encode(), hashlib.sha256).hexdigest()

    def _signature_holds(self, path: str, query: Any) -> bool:
        expires, issued, given = query.get("ex", ""), query.get("is", ""), query.get("hm", "")
        if not re.fullmatch(r"[0-9a-f]{1,12}", expires) or int(expires, 16) < time.time():
            return False
        return hmac.compare_digest(given, self._digest(path, expires, issued))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        stored = self.files.get(int(request.match_info["attachment"]))
        trouble = self.troubles.get(int(request.match_info["attachment"]), Trouble())
        if stored is None or trouble.gone or stored[0] != request.path:
            return web.Response(status=404, text="")
        path, data, kind = stored
        if not self._signature_holds(path, request.query):
            return web.Response(status=404, text="This content is no longer available.")
        response = web.StreamResponse(headers={"Content-Type": kind, "Cache-Control": "public, max-age=31536000"})
        if trouble.more:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(data)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if trouble.stall_after is not None:
            await response.write(data[: trouble.stall_after])
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.1)
            return response
        await response.write(data)
        if trouble.more:
            await response.write(FILLER_BYTE * trouble.more)
        await response.write_eof()
        return response
