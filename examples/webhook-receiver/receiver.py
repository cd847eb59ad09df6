#!/usr/bin/env python3
"""Takes Omni's webhooks: verifies each, does its work once, answers at once. Nothing but Python 3.8 is needed.

    OMNI_WEBHOOK_SECRET=whsec_… ./receiver.py [--listen 127.0.0.1:9000]

The rules that it keeps are in README.md beside it.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

TOLERANCE = 5 * 60  # seconds that a signature may be old: a copied request is worth nothing after that
LARGEST = 8 << 20  # bytes of a body
REMEMBERED = 100_000  # ids of events that were taken; a real program keeps them beside what it makes of the events


class Refused(Exception):
    """Not a request of ours."""


def verify(secret, headers, body, now=None):
    """Checks a request as Standard Webhooks has it. Raises `Refused` with the reason."""
    event_id, timestamp = headers.get("webhook-id"), headers.get("webhook-timestamp")
    signatures = headers.get("webhook-signature")
    if not (event_id and timestamp and signatures):
        raise Refused("it is not signed")
    try:
        age = abs((time.time() if now is None else now) - int(timestamp))
    except ValueError:
        raise Refused("its time is no number") from None
    if age > TOLERANCE:
        raise Refused("its signature is too old")
    key = base64.b64decode(secret[len("whsec_"):])
    signed = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(signed).decode()
    # While a secret is being replaced there are two signatures; one that matches is enough.
    if not any(hmac.compare_digest(expected, given) for given in signatures.split(" ")):
        raise Refused("its signature does not match")
    return event_id


class Once:
    """Remembers ids: Omni sends an event again when it does not know that it was taken."""

    def __init__(self):
        self.ids, self.lock = OrderedDict(), Lock()

    def first(self, event_id):
        with self.lock:
            if event_id in self.ids:
                return False
            self.ids[event_id] = True
            if len(self.ids) > REMEMBERED:
                self.ids.popitem(last=False)
            return True


def work(event):
    """What your program does. Hand it to a queue if it takes more than a few seconds."""
    payload = event["payload"]
    if event["type"] == "message.received":
        print(f"{payload['from']} in {payload['chatId']}: {payload['content'].get('text', '')}", flush=True)
    else:
        print(f"{event['type']}: {json.dumps(payload, ensure_ascii=False)}", flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        if length > LARGEST:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length)
        try:
            event_id = verify(self.server.secret, self.headers, body)
        except Refused as why:
            print(f"refused: {why}", file=sys.stderr, flush=True)
            return self.answer(401)
        if self.server.once.first(event_id):
            work(json.loads(body))
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    arguments = argparse.ArgumentParser(description="Takes Omni's webhooks.")
    arguments.add_argument("--listen", default="127.0.0.1:9000", metavar="ADDRESS")
    host, port = arguments.parse_args().listen.rsplit(":", 1)
    secret = os.environ.get("OMNI_WEBHOOK_SECRET", "")
    if not secret.startswith("whsec_"):
        sys.exit("set OMNI_WEBHOOK_SECRET to the secret that `omni webhooks create` showed (whsec_…)")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.secret, server.once = secret, Once()
    print(f"listening on http://{host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
