"""`python -m deploy.local.clickhouse`: the ClickHouse engine behind ClickHouse's HTTP interface, on loopback.

Serves until SIGTERM or SIGINT, then cancels what runs and leaves within three seconds.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from deploy.local.clickhouse.endpoint import Endpoint
from deploy.local.clickhouse.engine import ACCESS_KEY, SECRET_KEY, Engine

_GOODBYE_SECONDS = 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.clickhouse", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--data", type=Path, required=True, help="directory of the tables; made when missing")
    parser.add_argument("--user", default="icefleet", help="the one user (default: %(default)s)")
    parser.add_argument(
        "--password-env",
        default="ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD",
        help="environment variable that holds the password (default: %(default)s)",
    )
    parser.add_argument(
        "--settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the user's profile: the default of every query; repeatable",
    )
    parser.add_argument(
        "--max",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="the highest value that a query may give to a setting; repeatable",
    )
    parser.add_argument(
        "--named-collection",
        action="append",
        default=[],
        metavar="NAME=URL",
        help=f"a named collection for s3(), with the keys of ${ACCESS_KEY} and ${SECRET_KEY}; repeatable",
    )
    return parser.parse_args()


async def _serve(engine: Engine, arguments: argparse.Namespace, password: str) -> None:
    endpoint = Endpoint(engine, arguments.user, password)
    # handler_cancellation: a client that goes away ends its request, which stops its query.
    runner = web.AppRunner(
        endpoint.application(), handler_cancellation=True, auto_decompress=False, access_log=None, shutdown_timeout=0.5
    )
    await runner.setup()
    await web.TCPSite(runner, arguments.host, arguments.port).start()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    print(f"ClickHouse {engine.version} on http://{arguments.host}:{arguments.port}", flush=True)  # noqa: T201 - its log
    await stopping.wait()
    try:
        async with asyncio.timeout(_GOODBYE_SECONDS):
            await endpoint.stop()
            await asyncio.to_thread(engine.flush)
            await runner.cleanup()
    except TimeoutError:
        print("Queries were still running when the time to stop was over", flush=True)  # noqa: T201 - its log
    # At once, past the teardown of loop and interpreter: the engine's threads outlive both and may abort in it.
    os._exit(0)


def main() -> None:
    """Serve until told to stop."""
    arguments = _arguments()
    password = os.environ.get(arguments.password_env)
    if not password:
        sys.exit(f"{arguments.password_env} is not set: put the password of user {arguments.user} into it")
    if arguments.named_collection and not (os.environ.get(ACCESS_KEY) and os.environ.get(SECRET_KEY)):
        sys.exit(f"{ACCESS_KEY} or {SECRET_KEY} is not set: put the keys of the named collections into them")
    settings, highest, collections = (
        dict(text.partition("=")[::2] for text in texts)
        for texts in (arguments.settings, arguments.max, arguments.named_collection)
    )
    asyncio.run(_serve(Engine(arguments.data, settings, highest, collections), arguments, password))


if __name__ == "__main__":
    main()
