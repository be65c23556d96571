"""Streams of PostgreSQL are in the trace of the activity that has them: one span each, however long they go on."""

from contextlib import suppress

from activities.clients.buffer import Buffer
from activities.clients.capture_sink import open_sink
from activities.clients.replication import open_log
from activities.core.faults import LockTaken
from support.buffers import SCHEMA
from support.ownpostgres import fresh_database
from support.recorded import recorded

COPY, LOG = "postgresql copy", "postgresql replication"


async def test_every_stream_is_a_span_until_it_is_closed(stack):
    async with fresh_database(stack) as own:
        buffer = Buffer(own.settings, SCHEMA)
        await buffer.install()
        with recorded() as below:

            def streams():
                return [(one.name, one.status.description) for one in below() if one.name in {COPY, LOG}]

            async with buffer.locked() as holder:
                query = "COPY (SELECT * FROM generate_series(1, 2)) TO STDOUT"
                assert b"".join([piece async for piece in holder.stream(query)]) == b"1\n2\n"
            assert streams() == [(COPY, None)]
            async with open_log(own.settings):
                assert streams()[1:] == []
            assert streams()[1:] == [(LOG, None)]
            async with open_sink(own.settings, SCHEMA) as sink:
                await sink.write([])
                assert streams()[2:] == []
                with suppress(LockTaken):  # nobody has begun to capture: the copy has ended all the same
                    await sink.commit(None, 16)
                assert streams()[2:] == [(COPY, None)]
                await sink.write([])
            assert streams()[3:] == [(COPY, "not committed")]
