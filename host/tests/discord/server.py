"""A Discord on the loopback interface, for tests: HTTP API, gateway, downloads, and controls under /_test/.

    python server.py [--port 0] [--guilds N] [--channels C] [--shards S] [--max-concurrency M]
                     [--heartbeat-ms 41250] [--identify-limit 1000] [--identify-window-ms 5000]

It prints one line of JSON when it listens, and ends on SIGTERM or when its stdin closes (if that is a pipe or a socket),
so that it never outlives the process that started it. What a message, a permission or an error is comes from the
package simcord; the files here are transport, test controls, and the parts of Discord that simcord lacks.

It keeps nothing between runs, checks no TLS, and serves a single bot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
from typing import Any

from aiohttp import web

import controls
import controls_interactions  # noqa: F401  (registers its controls)
import controls_network  # noqa: F401  (registers its controls)
import controls_people  # noqa: F401  (registers its controls)
import gaps
import oauth
import payloads
from gateway import Gateway
from record import Record, described
from rest import Rest
from world import World

TOKEN = "test-token"
LARGEST_REQUEST = 64 * 1024 * 1024


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A Discord on the loopback interface, for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--guilds", type=int, default=1)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--max-concurrency", type=int, default=1)
    parser.add_argument("--heartbeat-ms", type=int, default=41_250)
    parser.add_argument("--identify-limit", type=int, default=1000)
    parser.add_argument("--identify-window-ms", type=int, default=5000)
    return parser.parse_args()


def populate(world: World, guilds: int, channels: int, shards: int) -> dict[str, str]:
    """Make the first guild and the others; gives the ids for the line of the start."""
    names = ["general", *(f"channel-{number}" for number in range(2, channels + 1))]
    first = world.open_guild("Test Guild", channels=names, members=[world.alice], shard=(0, shards))
    for number in range(2, guilds + 1):
        world.open_guild(f"Guild {number}", channels=names, shard=((number - 1) % shards, shards))
    return {
        "token": TOKEN,
        "application": str(world.application_id),
        "bot": str(world.bot_user.id),
        "guild": str(first.id),
        "channel": str(first.channel_ids[0]),
        "user": str(world.alice.id),
    }


def recording(record: Record) -> Any:
    """Keeps downloads and sign-ins in the record, beside the API's requests."""

    @web.middleware
    async def record_request(request: web.Request, handler: Any) -> web.StreamResponse:
        response = await handler(request)
        if request.path.startswith("/cdn/") or request.path.endswith(oauth.PATHS):
            record.request({**described(request), "status": response.status})
        return response

    return record_request


async def parent_is_gone() -> None:
    """Returns when stdin closes; never, when stdin is a terminal or a file."""
    kind = os.fstat(sys.stdin.fileno()).st_mode
    if not stat.S_ISFIFO(kind) and not stat.S_ISSOCK(kind):
        await asyncio.Event().wait()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass


async def end_polls(world: World) -> None:
    """End polls when their time is over."""
    while True:
        await asyncio.sleep(0.5)
        world.expire_due_polls()


async def serve(options: argparse.Namespace) -> None:
    payloads.install()
    gaps.install()
    world, record = World(), Record()
    gateway = Gateway(world, record)
    gateway.token = TOKEN
    gateway.shards = options.shards
    gateway.max_concurrency = options.max_concurrency
    gateway.heartbeat_ms = options.heartbeat_ms
    gateway.identify_total = options.identify_limit
    gateway.identify_window_ms = options.identify_window_ms
    rest = Rest(world, gateway, record)
    start = populate(world, options.guilds, options.channels, options.shards)
    sign_in = oauth.OAuth(world, gateway)
    panel = controls.Panel(world, gateway, rest, record, sign_in, start)

    app = web.Application(client_max_size=LARGEST_REQUEST, middlewares=[recording(record)])
    app.router.add_get("/gw", gateway.handle)
    app.router.add_get("/gw/", gateway.handle)
    app.router.add_get(r"/cdn/attachments/{channel:\d+}/{attachment:\d+}/{name}", world.cdn.serve)
    app.router.add_route("*", "/_test/{op}", panel.handle)
    sign_in.mount(app)
    app.router.add_route("*", "/api/{path:.*}", rest.handle)

    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port)
    await site.start()
    port = runner.addresses[0][1]
    world.cdn.base = f"http://127.0.0.1:{port}"
    gateway.url = f"ws://127.0.0.1:{port}/gw"
    start["port"] = port
    print(json.dumps(start), flush=True)

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    watchers = [asyncio.create_task(parent_is_gone()), asyncio.create_task(stopped.wait())]
    polls = asyncio.create_task(end_polls(world))
    await asyncio.wait(watchers, return_when=asyncio.FIRST_COMPLETED)
    for task in (*watchers, polls):
        task.cancel()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
