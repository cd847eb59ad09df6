#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets, and the words that they are mixed from, out of the golden files of the SDK and the
recorded updates of the Telegram channel.

Run it when those have grown. What is in `seeds/` beside what it writes (`by-hand-*`) stays.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
GOLDEN = ROOT / "channel-sdk/tests/golden"
UPDATES = ROOT / "plugins/telegram/tests/fixtures"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def text(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def seed(target, name, data):
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()).strip("-")
    (folder / name).write_bytes(data)


def frame(head, tails):
    parts = [text(head), *tails]
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def note(manifest):
    return struct.pack("<III", 5, len(manifest), 1) + b"Omni\0\0\0\0" + manifest


def manifests():
    for name, manifest in golden("manifest").items():
        seed("manifest", f"section {name}", b"1" + note(text(manifest)))
        seed("manifest", f"manifest {name}", b"2" + text(manifest))
    for channel in ("echo", "telegram"):
        written = json.loads((ROOT / f"plugins/{channel}/channel.json").read_text())
        seed("manifest", f"schema {channel}", b"3" + text(written["configSchema"]))


def frames():
    tails = [b"one", b"", b'{"two":2}']
    for name, head in golden("to-host").items():
        seed("frames", f"to host {name}", b"0" + frame(head, tails))
    for name, reply in golden("replies").items():
        head = {"done": {"call": 7, "result": {"ok": {"reply": {"reply": reply}}}, "commit": {}}}
        seed("frames", f"reply {name}", b"0" + frame(head, []))
    for name, head in golden("to-channel").items():
        seed("frames", f"to channel {name}", b"1" + frame(head, tails))
    for name, request in golden("requests").items():
        head = {"begin": {"call": 7, "now": 0, "op": {"request": {"request": request}}}}
        seed("frames", f"request {name}", b"1" + frame(head, []))
    for kind in range(1, 8):
        body = struct.pack("<BQ", kind, 3) + b"{}"
        seed("frames", f"message {kind}", b"2" + struct.pack("<I", len(body)) + body)
    for name, able in golden("capabilities").items():
        seed("frames", f"capabilities {name}", b"3" + text(able))


def telegram():
    for file in sorted(UPDATES.glob("*.json")):
        for number, update in enumerate(json.loads(file.read_text()), 1):
            seed("telegram_updates", f"{file.stem} {number:02}", text(update))
    refusals = {
        "conflict": (409, "Conflict: terminated by other getUpdates request"),
        "webhook": (409, "Conflict: can't use getUpdates method while webhook is active"),
        "unauthorized": (401, "Unauthorized"),
        "too fast": (429, "Too Many Requests: retry after 3"),
        "failing": (502, "Bad Gateway"),
    }
    for name, (code, why) in refusals.items():
        answer = {"ok": False, "error_code": code, "description": why, "parameters": {"retry_after": 3}}
        seed("telegram_updates", f"answer {name}", text(answer))
    seed("telegram_updates", "answer empty", text({"ok": True, "result": []}))


def cursors():
    position = struct.pack(">q", 1_767_225_600_000_000) + bytes(range(16))
    plain = base64.urlsafe_b64encode(position).rstrip(b"=")
    seed("cursors", "position", b"0" + plain)
    seed("cursors", "word", b"1" + base64.urlsafe_b64encode("Zoë".encode()).rstrip(b"="))
    seed("cursors", "query", b"2limit=20&cursor=" + plain + b"&search=%C3%A4")
    for after in ("0", "3", "7", "-1", "9223372036854775807", "-9223372036854775808", "soon"):
        seed("cursors", f"last event id {after.replace('-', 'minus ')}", b"3\x02\x05" + after.encode())
    stream = b": hello\r\nid: 7\nevent: message.received\ndata: {\ndata:  1}\r\n\r\nretry: 3\rdata:\xc3\xa4\r\r\n"
    seed("cursors", "stream", b"4\x03" + stream)


def bodies():
    body = b'{"a":1}'
    sign = hmac.new(b"key", body, hashlib.sha256).hexdigest()
    seed("webhook_bodies", "proof signature", f"0key\nv={sign}\n1767225600\n".encode() + body)
    seed("webhook_bodies", "proof secret", b"0key\nkey\n1767225900\n" + body)
    for name, event in golden("events").items():
        whole = {"deliveryKey": "k", "at": 1_767_225_600_000, "chat": {"id": "c", "kind": "group"}, "body": event}
        seed("webhook_bodies", f"event {name}", b"1" + text(whole))
    raw = {"deliveryKey": "k", "at": 0, "chat": {"id": "c"}, "body": golden("events")["message"]}
    seed("webhook_bodies", "event with raw words", b"1" + text({**raw, "raw": {"x": [1.5, "\0", {"y": None}]}}))
    for name, content in golden("content").items():
        seed("webhook_bodies", f"content {name}", b"2" + text(content))
    seed("webhook_bodies", "head", b"3POST\n/a/b?x=1&y=%20\nvalue\n" + body)
    for name, way_in in golden("ingress").items():
        if way_in.get("type") == "webhook":
            seed("webhook_bodies", f"declared {name}", b"4" + text(way_in))
    posted = {"chatId": "c", "from": "u", "externalId": "m", "text": "hello", "name": "Ada"}
    seed("echo_bodies", "whole", text(posted))
    seed("echo_bodies", "no name", text({key: posted[key] for key in list(posted)[:4]}))
    seed("echo_bodies", "empty id", text({**posted, "chatId": ""}))
    seed("echo_bodies", "wrong type", text({**posted, "text": 1}))


def trust():
    lock = f'version = 1\n\n[[plugin]]\nsha256 = "{"aB" * 32}"\nchannel = "echo"\nfile = "libx.so"\n'
    seed("trust", "lock", b"0" + lock.encode())
    seed("trust", "versions", b'1# kept\necho = "0.1.0"\ntelegram = "1.2.3-rc.1+build"\n')
    # The form of a signature; what it signs is nothing.
    one = base64.b64encode(b"ED" + bytes.fromhex("1fe8b442180f62e6") + bytes(64)).decode()
    two = base64.b64encode(bytes(64)).decode()
    words = f"untrusted comment: x\n{one}\ntrusted comment: channel:x version:0.1.0\n{two}\n"
    seed("trust", "signature", b"2" + words.encode())
    seed("trust", "retry after seconds", b"3120")
    seed("trust", "retry after date", b"3Sun, 06 Nov 2026 08:49:37 GMT")


def stored():
    events = golden("events")
    for name, event in events.items():
        whole = {"deliveryKey": "k", "at": 1_767_225_600_000, "chat": {"id": "c", "kind": "group"}, "body": event}
        before = {**whole, "deliveryKey": "k0", "body": events["message"]}
        seed("stored_events", f"{name}", text(before) + b"\n" + text(whole))


def names(value):
    """The names of fields, and the words that tell kinds apart."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name in ("type", "kind", "status", "method") and isinstance(inner, str):
                yield inner
            yield from names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)


def words():
    for name, folder in (("wire", GOLDEN), ("telegram", UPDATES)):
        found = {word for file in sorted(folder.glob("*.json")) for word in names(json.loads(file.read_text()))}
        plain = sorted(word for word in found if re.fullmatch(r"[A-Za-z_]{2,30}", word))
        marks = [r"\"", r"{\"", r"\":", "null", "true", r"\\u0000", r"\\ud800", "1e999", "[[[[", "]]]]", "{}", "-1"]
        lines = [f'"{mark}"' for mark in marks] + [f'"\\"{word}\\""' for word in plain]
        (HERE / f"{name}.dict").write_text("\n".join(lines) + "\n")


for make in (manifests, frames, telegram, cursors, bodies, trust, stored, words):
    make()
