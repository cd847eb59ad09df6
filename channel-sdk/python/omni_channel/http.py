"""HTTP as data: what a channel asks the host to fetch, and what comes back."""

from __future__ import annotations

import json as _json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .errors import BadJson
from .shape import fit

if TYPE_CHECKING:
    from .wire import FormPart, Header, HttpBody, HttpCall

T = TypeVar("T")


class _Body:
    """Headers and raw bytes."""

    headers: list[Header]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of a name, in any case."""
        name = name.lower()
        return next((header["value"] for header in self.headers if header["name"].lower() == name), None)

    def text(self) -> str:
        """The body as words; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    @overload
    def json(self, shape: type[T]) -> T: ...

    @overload
    def json(self) -> Any: ...

    def json(self, shape: Any = Any) -> Any:
        """The body as JSON, of this shape (a `TypedDict`, `list[...]` …). Raises `BadJson` when it is something else."""
        try:
            value = _json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadJson(f"the network sent something that is not what it should be: {error}") from None
        return fit(value, shape)


class HttpResponse(_Body):
    """An answer, of any status; or what a webhook answers."""

    def __init__(self, status: int, headers: Mapping[str, str] | list[Header] | None = None, body: bytes | str = b""):
        self.status = status
        self.headers = header_list(headers)
        self.body = body.encode() if isinstance(body, str) else bytes(body)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class WebhookRequest(_Body):
    """A request that the network made."""

    def __init__(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | list[Header] | None = None,
        body: bytes = b"",
    ):
        self.method = method
        self.path = path
        """Behind the webhook's own, with a leading slash."""
        self.query = query
        """Without the question mark."""
        self.headers = header_list(headers)
        self.body = body


def header_list(headers: Mapping[str, str] | list[Header] | None) -> list[Header]:
    """Headers as they cross: in order."""
    if isinstance(headers, Mapping):
        return [{"name": name, "value": value} for name, value in headers.items()]
    return list(headers or [])


def http_call(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | list[Header] | None = None,
    body: HttpBody | None = None,
    timeout_ms: int | None = None,
    max_bytes: int | None = None,
    secrets_in_body: bool = False,
) -> HttpCall:
    """A call that the host makes for a channel. Where the URL or a header holds a secret's placeholder, the host puts the
    secret in; in a JSON or form body only with `secrets_in_body`."""
    call: HttpCall = {"method": method, "url": url}
    if headers:
        call["headers"] = header_list(headers)
    if body is not None:
        call["body"] = body
    if timeout_ms is not None:
        call["timeoutMs"] = int(timeout_ms)
    if max_bytes is not None:
        call["maxBytes"] = int(max_bytes)
    if secrets_in_body:
        call["secretsInBody"] = True
    return call


def http_get(url: str, headers: Mapping[str, str] | None = None, **more: Any) -> HttpCall:
    """A `GET`. More is said as for `http_call`."""
    return http_call("GET", url, headers=headers, **more)


def http_post_json(url: str, json: Any, headers: Mapping[str, str] | None = None, **more: Any) -> HttpCall:
    """A `POST` of a JSON value."""
    return http_call("POST", url, headers=headers, body={"type": "json", "json": json}, **more)


def http_post_multipart(
    url: str, parts: list[FormPart], headers: Mapping[str, str] | None = None, **more: Any
) -> HttpCall:
    """A `POST` of form parts; files among them are streamed by the host."""
    return http_call("POST", url, headers=headers, body={"type": "multipart", "parts": parts}, **more)


def form_text(name: str, text: str) -> FormPart:
    """A part of a form: a value in words."""
    return {"name": name, "text": text}


def form_blob(name: str, blob: str, file_name: str | None = None, mime_type: str | None = None) -> FormPart:
    """A part of a form: a file that the host holds."""
    part: FormPart = {"name": name, "blob": blob}
    if file_name is not None:
        part["fileName"] = file_name
    if mime_type is not None:
        part["mimeType"] = mime_type
    return part
