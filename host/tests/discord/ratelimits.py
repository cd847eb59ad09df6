"""Rate limits of the HTTP API: one bucket per route and major parameter, counted in fixed windows.

Sending messages has Discord's usual 5 per 5 seconds and channel; every other route gets a generous bucket. A test can
switch counting off, change the numbers, or order a number of 429 answers.

It does not count Discord's limit over all routes, its limit of invalid requests, or sublimits such as channel renames.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

MAJOR = ("channels", "guilds", "webhooks", "interactions")
DEFAULT_ALLOWANCE = (50, 1.0)


@dataclass
class Window:
    limit: int
    seconds: float
    used: int = 0
    ends: float = 0.0


@dataclass
class Forced:
    """429 answers that a test ordered."""

    after: float
    scope: str
    is_global: bool
    count: int
    method: str = "*"
    path_prefix: str = "/"

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("*", method) and path.startswith(self.path_prefix)


@dataclass
class Refusal:
    body: dict[str, Any]
    headers: dict[str, str]


def bucket_of(method: str, path: str) -> tuple[str, str]:
    """The route with its parameters taken out, and its major parameter."""
    segments = path.strip("/").split("/")
    major = "/".join(segments[:2]) if segments[0] in MAJOR and len(segments) > 1 else ""
    if segments[0] == "webhooks" and len(segments) > 2:
        major = "/".join(segments[:3])
    shape: list[str] = []
    for index, segment in enumerate(segments):
        after_reactions = index > 0 and segments[index - 1] == "reactions"
        token = index == 2 and segments[0] in ("webhooks", "interactions")
        shape.append("{}" if segment.isdigit() or after_reactions or token else segment)
    return f"{method} /{'/'.join(shape)}", major


@dataclass
class RateLimits:
    enabled: bool = True
    messages: tuple[int, float] = (5, 5.0)
    others: tuple[int, float] = DEFAULT_ALLOWANCE
    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    forced: Forced | None = None

    def set(self, *, enabled: bool, messages: tuple[int, float], others: tuple[int, float]) -> None:
        self.enabled, self.messages, self.others = enabled, messages, others
        self.windows.clear()

    def admit(self, method: str, path: str) -> tuple[dict[str, str], Refusal | None]:
        """Count this request. Gives the headers for its answer, or a refusal."""
        route, major = bucket_of(method, path)
        bucket = hashlib.md5(route.encode()).hexdigest()
        if self.forced is not None and self.forced.matches(method, path):
            return {}, self._refuse_as_ordered(bucket)
        limit, seconds = self.messages if route == "POST /channels/{}/messages" else self.others
        now = time.time()
        window = self.windows.setdefault((route, major), Window(limit, seconds))
        if now >= window.ends:
            window.used, window.ends = 0, now + window.seconds
        if not self.enabled:
            window.used = 0
        elif window.used >= window.limit:
            return {}, self._refusal(bucket, window, now)
        window.used += 1
        return self._headers(bucket, window, now), None

    @staticmethod
    def _headers(bucket: str, window: Window, now: float) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(window.limit),
            "X-RateLimit-Remaining": str(max(0, window.limit - window.used)),
            "X-RateLimit-Reset": f"{window.ends:.3f}",
            "X-RateLimit-Reset-After": f"{max(0.0, window.ends - now):.3f}",
            "X-RateLimit-Bucket": bucket,
        }

    def _refusal(self, bucket: str, window: Window, now: float) -> Refusal:
        after = round(max(0.001, window.ends - now), 3)
        headers = {
            **self._headers(bucket, window, now),
            "Retry-After": str(int(after) + 1),
            "X-RateLimit-Scope": "user",
        }
        return Refusal({"message": "You are being rate limited.", "retry_after": after, "global": False}, headers)

    def _refuse_as_ordered(self, bucket: str) -> Refusal:
        order = self.forced
        assert order is not None
        order.count -= 1
        if order.count <= 0:
            self.forced = None
        headers = {"Retry-After": str(int(order.after) + 1), "X-RateLimit-Scope": order.scope}
        if order.is_global:
            headers["X-RateLimit-Global"] = "true"
        else:
            now = time.time()
            exhausted = Window(*self.messages, used=self.messages[0], ends=now + order.after)
            headers.update(self._headers(bucket, exhausted, now))
        body = {"message": "You are being rate limited.", "retry_after": order.after, "global": order.is_global}
        return Refusal(body, headers)
