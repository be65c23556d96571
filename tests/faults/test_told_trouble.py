"""What alerts stand on is told when it happens: an event or changes that wait, a commit that another one beat."""

import contextlib

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import export_metrics, failpoints, ingest_metrics
from activities.cdc import Cdc
from activities.contracts.cdc import CopyInput, IngestInput
from activities.lake import sending
from support.buffers import insert, schema_event
from support.direct import COMMIT, Hands
from support.faultproxy import Answer, AnswerInstead, TcpFaults
from support.fleet import eventually
from support.ingests import PIPELINE
from support.ingests import opened as ingesting
from support.measured import measured
from support.mirrors import opened as mirroring
from support.mirrors import put, update

LAG, DELAY = "icefleet.announcement.lag", "icefleet.announcement.delay"
CONFLICTS = "icefleet.commit.conflicts"


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


async def test_a_snapshot_whose_event_nats_does_not_take_is_told_to_wait_for_longer_and_longer_until_it_does(fleet):
    await fleet.make_days(days=2, rows=5)
    about = {"network": fleet.network, "table": "events"}
    async with TcpFaults(fleet.stack.ports["nats"]) as wire:
        fleet.point(nats=wire.port)
        async with fleet.context() as context:
            hands = Hands(fleet, context)
            await hands.run(from_="2024-03-19", to="2024-03-19")
            await hands.run(from_="2024-03-20", to="2024-03-20")
            with measured(export_metrics) as told:
                await wire.refuse()
                with pytest.raises(ApplicationError, match="NATS"):
                    await hands.announce()
                [(whose, waits)] = told()[LAG]
                await eventually(lambda: told()[LAG][0][1] > waits + 0.1)
                assert (whose, DELAY in told()) == (about, False)
                await wire.mend()

                async def announced():
                    with contextlib.suppress(ApplicationError):  # the client may take a moment to come back
                        return (await hands.announce()).announced

                assert await eventually(announced) == 2
                said = told()
    assert said[LAG] == [(about, 0)]
    assert said[DELAY] == [({}, 2)]


async def test_each_commit_of_any_kind_of_table_that_the_catalog_refuses_for_a_faster_one_is_told(
    fleet, postgres, catalog
):
    await fleet.make_days(days=1, rows=5)
    refused = Answer(409, b"{}")
    with measured(sending) as told:
        async with fleet.context() as context:
            catalog.on(refused, times=2, **COMMIT)
            await Hands(fleet, context).run()
        async with ingesting(fleet, postgres) as ingest:
            await ingest.producer.transaction(schema_event(), insert(1))
            catalog.on(refused, method="POST", path=r"/tables/public_orders_changelog(\?|$)")
            await ingest.batch()
            changelog = {"network": ingest.namespace, "table": "public_orders_changelog"}
        async with mirroring(fleet) as orders:
            await orders.write(put(1, name="a"))
            await orders.merge()
            await orders.write(update(1, name="b"))

            async def be_faster():
                """Somebody else's commit comes between plan and commit, and the catalog itself says no."""
                failpoints.disarm()
                with orders.table().transaction() as theirs:
                    theirs.update_snapshot().fast_append().commit()

            failpoints.arm("merge-before-commit", be_faster)
            assert (await orders.merge()).commits == 1
            namespace, _, name = orders.config.mirror.rpartition(".")
        found = {(about["network"], about["table"]): count for about, count in told()[CONFLICTS]}
    assert found[fleet.network, "events"] == 2
    assert found[tuple(changelog.values())] == 1
    assert found[namespace, name] == 1


async def test_changes_that_cannot_be_carried_over_are_told_to_wait_until_they_are(fleet, postgres, catalog):
    expired = AnswerInstead(401, b'{"error": {"message": "expired", "type": "NotAuthorizedException", "code": 401}}')
    about = {"pipeline": PIPELINE}
    async with ingesting(fleet, postgres) as ingest:
        room = Cdc(ingest.context)

        async def batch():
            return await ActivityEnvironment().run(room.ingest_batch, IngestInput(fleet.name, PIPELINE, 0))

        with measured(ingest_metrics) as told:
            await ingest.producer.transaction(schema_event(), insert(1))
            await batch()
            assert told()["icefleet.cdc.ingest_lag"] == [(about, 0)]
            await ingest.producer.transaction(insert(2), insert(3))
            catalog.on(expired, path=r"/v1/", times=None)
            with pytest.raises(ApplicationError):
                await batch()
            [(whose, waits)] = told()["icefleet.cdc.ingest_lag"]
            await eventually(lambda: told()["icefleet.cdc.ingest_lag"][0][1] > waits + 0.1)
            catalog.mend()
            await batch()
            said = told()
    assert whose == about
    assert said["icefleet.cdc.ingest_lag"] == [(about, 0)]
    assert said["icefleet.cdc.ingested_events"] == [(about, 3)]


async def test_changes_of_a_table_that_fails_are_told_to_wait_though_others_go_on(
    fleet, postgres, catalog, monkeypatch
):
    about = {"pipeline": PIPELINE}
    async with ingesting(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1), schema_event(table="other"))
        await ingest.drain()
        monkeypatch.setattr(sending, "TRIES", 1)
        with measured(ingest_metrics) as told:
            catalog.on(Answer(409, b"{}"), method="POST", path=r"/tables/public_orders_changelog(\?|$)", times=None)
            waits = [0.0]
            for number in range(2, 4):
                await ingest.producer.transaction(insert(number), insert(number, table="other"))
                report = await ingest.batch()
                assert {one.table: bool(one.failed) for one in report.tables} == {
                    "public.orders": True,
                    "public.other": False,
                }
                await eventually(lambda: told()["icefleet.cdc.ingest_lag"][0][1] > waits[-1] + 0.1)
                waits.append(told()["icefleet.cdc.ingest_lag"][0][1])
            catalog.mend()
            await ingest.drain()
            said = told()
    assert said["icefleet.cdc.ingest_lag"] == [(about, 0)]
    assert said["icefleet.cdc.ingested_events"] == [(about, 4)]


async def test_a_first_copy_that_fails_is_told_until_it_is_done(fleet, postgres, s3):
    denied = Answer(403, b"<Error><Code>AccessDenied</Code></Error>", "application/xml")
    await postgres.run("CREATE TABLE orders (id bigint PRIMARY KEY)", "INSERT INTO orders VALUES (1), (2)")
    about = {"pipeline": PIPELINE, "table": "public.orders"}
    async with ingesting(fleet, postgres, source=postgres.config()) as ingest:
        await ingest.buffer.set_copying("public", "orders")
        asked, room = CopyInput(fleet.name, PIPELINE, "public.orders"), Cdc(ingest.context)
        with measured(ingest_metrics) as told:
            rule = s3.on(denied, method="PUT", path=r"/cdc/", times=None)
            with pytest.raises(ApplicationError):
                await ActivityEnvironment().run(room.copy_table, asked)
            [(whose, waits)] = told()["icefleet.cdc.copy_lag"]
            await eventually(lambda: told()["icefleet.cdc.copy_lag"][0][1] > waits + 0.1)
            s3.mend()
            report = await ActivityEnvironment().run(room.copy_table, asked)
            said = told()["icefleet.cdc.copy_lag"]
    assert (whose, rule.times_struck > 0, report.rows) == (about, True, 2)
    assert said == [(about, 0)]
