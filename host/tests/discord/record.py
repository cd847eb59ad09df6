"""What the server was asked, in order, so that a test can look at it afterwards.

Both lists are bounded; the oldest entries go first. Nothing is written to disk, and answers are kept only as a status.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from aiohttp import web

LIMIT = 20_000
HEADERS_OF_INTEREST = ("authorization", "user-agent", "content-type", "x-audit-log-reason", "x-ratelimit-precision")


def described(request: web.Request) -> dict[str, Any]:
    """What is kept of any request."""
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "headers": {name: request.headers[name] for name in HEADERS_OF_INTEREST if name in request.headers},
    }


class Record:
    def __init__(self) -> None:
        self.started = time.monotonic()
        self.http: deque[dict[str, Any]] = deque(maxlen=LIMIT)
        self.gateway: deque[dict[str, Any]] = deque(maxlen=LIMIT)

    def _elapsed_ms(self) -> int:
        return int((time.monotonic() - self.started) * 1000)

    def request(self, entry: dict[str, Any]) -> None:
        self.http.append({"ms": self._elapsed_ms(), **entry})

    def gateway_op(self, shard: int | None, op: Any, data: Any) -> None:
        self.gateway.append({"ms": self._elapsed_ms(), "shard": shard, "op": op, "d": data})

    def clear(self) -> None:
        self.http.clear()
        self.gateway.clear()

    def as_json(self) -> dict[str, Any]:
        return {"http": list(self.http), "gateway": list(self.gateway)}
