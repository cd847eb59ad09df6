"""What a channel plugin for Omni is written with in Python.

A *channel* is a kind of network, as code. Subclass `Channel`, describe it in `channel.json`, and end `app.py` with
`Channel = export(MyChannel)`: `componentize-py` makes a WASM component of it, the plugin that a host loads.

    wire      the types of the JSON that crosses, generated from those of the Rust SDK
    channel   the class, one method for each kind of request
    context   what the host does for a channel
    errors    what can go wrong, and who acts next
    http build shape   constructors, and whether JSON is what it should be
    frame driver boundary   the bytes that cross, and what runs an instance
"""

from . import wire
from .boundary import export
from .build import (
    chat,
    connected,
    event,
    header_equals,
    hmac_sha256,
    long_poll,
    message,
    receipt,
    text,
    timer,
    timestamp_window,
    user,
    webhook,
    websocket,
)
from .channel import Channel, EventOutcome, Started
from .context import Context, gather
from .errors import BadJson, ChannelError, HostError, HttpFailed, SendError
from .http import (
    HttpResponse,
    WebhookRequest,
    form_blob,
    form_text,
    http_call,
    http_get,
    http_post_json,
    http_post_multipart,
)
from .shape import fit

__all__ = [
    "BadJson",
    "Channel",
    "ChannelError",
    "Context",
    "EventOutcome",
    "HostError",
    "HttpFailed",
    "HttpResponse",
    "SendError",
    "Started",
    "WebhookRequest",
    "chat",
    "connected",
    "event",
    "export",
    "fit",
    "form_blob",
    "form_text",
    "gather",
    "header_equals",
    "hmac_sha256",
    "http_call",
    "http_get",
    "http_post_json",
    "http_post_multipart",
    "long_poll",
    "message",
    "receipt",
    "text",
    "timer",
    "timestamp_window",
    "user",
    "webhook",
    "websocket",
    "wire",
]
