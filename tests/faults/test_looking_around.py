"""What a worker that starts says of a part that takes connections and then says nothing."""

import asyncio
from contextlib import asynccontextmanager

from activities.clients.postgres import PostgresSettings
from worker import dependencies
from worker.dependencies import Dependency, lake_of, missing, sources_of


@asynccontextmanager
async def silence():
    """A port on which somebody listens who never answers."""
    ending = asyncio.Event()

    async def hold(_, writer):
        await ending.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server:
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            ending.set()


async def test_a_part_that_takes_connections_and_says_nothing_is_named_by_its_address_and_a_way_out(fleet, monkeypatch):
    monkeypatch.setattr(dependencies, "ANSWER_SECONDS", 1)
    await fleet.make_days(days=1, rows=1)
    async with silence() as port:
        fleet.point(clickhouse=port, s3=port, catalog=port, nats=port)
        async with fleet.context() as context:
            [(config, _)] = fleet.settings().exports(fleet.name)
            buffer = PostgresSettings("buffer of shop", "127.0.0.1", port, "shop", "nobody", "")
            parts = [
                *lake_of(context.store, context.lake, context.bus),
                *sources_of({fleet.queue: context.find_source(config.source)}),
                Dependency(buffer.name, buffer.where, buffer.check),
            ]
            found = await missing(parts)
            why = [one.why.partition(" has not answered within 1 s; look at that server") for one in found]
    assert [where for where, _, _ in why] == [
        f"object store http://127.0.0.1:{port}",
        f"catalog http://127.0.0.1:{port} (warehouse 'lake')",
        f"NATS nats://127.0.0.1:{port}",
        f"ClickHouse {fleet.name}.default (127.0.0.1:{port})",
        f"buffer of shop (127.0.0.1:{port})",
    ]
    assert {way_out.rpartition(", or ")[2] for _, _, way_out in why} == {"mend its address in environments.yaml"}
