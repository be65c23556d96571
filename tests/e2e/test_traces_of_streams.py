"""From PostgreSQL's log to a mirror: which traces there are, and what holds them together."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from activities.contracts.mirrors import mirror_id
from deploy.local.stack import Stack
from support.cdcloops import progress_of
from support.collector import Collector, SeenSpan, collecting
from support.fleet import eventually
from support.ingests import place
from support.tracing import Sent, forgetful, sent_events, set_for_commands

CHANGELOG, MIRROR = "public_orders_changelog", "orders"


@dataclass(frozen=True)
class Told:
    """What came of a table's first copy, of a row that was committed later, and of upkeep."""

    collector: Collector
    copied: Sent
    """The event of the first copy."""
    ingested: Sent
    """The changelog's event of the row."""
    merged: Sent
    """The mirror's."""

    def path(self, event: Sent) -> list[str]:
        """From an event's sending up to where its trace began."""
        (sent,) = [span for span in self.collector.of(event.trace) if span.id == event.span]
        return self.collector.path(sent)


@pytest.fixture(scope="module")
async def told(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """One pipeline and its mirror, by a worker that replays every step."""
    with collecting() as collector:
        async with place(stack, tmp_path_factory.mktemp("streams")) as (fleet, postgres):
            changelog, mirror = f"{fleet.network}.{CHANGELOG}", f"{fleet.network}.{MIRROR}"
            fleet.set_cdc(shop=postgres.pipeline(namespace=fleet.network))
            fleet.set_mirrors({"changelog_table": changelog, "mirror_table": mirror, "primary_keys": ["id"]})
            await postgres.run("CREATE TABLE orders (id bigint PRIMARY KEY, name text)")
            await postgres.run("INSERT INTO orders VALUES (1, 'a'), (2, 'b')")
            loop = fleet.temporal.get_workflow_handle(mirror_id(fleet.name, mirror))

            async def heard(*tables: str) -> list[Sent]:
                """The events, once they are of these tables."""

                async def there() -> list[Sent]:
                    events = await sent_events(fleet)
                    return events if [event.table for event in events] == list(tables) else []

                found: list[Sent] = await eventually(there)
                return found

            async with forgetful(fleet, collector.variables()):
                with set_for_commands(collector.variables()):
                    code, _, errors = await fleet.command("cdc", "install", "--tables", "public.orders")
                assert code == 0, errors
                await heard(CHANGELOG, MIRROR)
                await progress_of(loop, woken=False, doing="", lag_events=0)
                await postgres.run("INSERT INTO orders VALUES (3, 'c')")
                copied, _, ingested, merged = await heard(CHANGELOG, MIRROR, CHANGELOG, MIRROR)
                with set_for_commands(collector.variables()):
                    kinds = ("--kind", "changelog", "--kind", "mirror")
                    code, kept, errors = await fleet.command("maintain", *kinds, "--wait", "--json")
                assert (code, json.loads(kept)["tables"]) == (0, 2), errors
            yield Told(collector, copied, ingested, merged)


def test_what_a_batch_commits_is_announced_and_merged_in_the_batch_s_trace(told):
    batch = ["nats publish", "RunActivity:ingest_batch", "StartActivity:ingest_batch"]
    assert told.path(told.ingested) == batch
    assert told.path(told.merged) == [
        *("nats publish", "RunActivity:merge_mirror", "StartActivity:merge_mirror"),
        *("HandleSignal:merge", "SignalWithStartWorkflow:MergeMirror", "nats receive"),
        *batch,
    ]


def test_a_first_copy_is_announced_in_the_trace_of_the_turn_that_began_it(told):
    assert told.path(told.copied) == [
        *("nats publish", "RunActivity:copy_table", "StartActivity:copy_table"),
        *("RunWorkflow:CopyTable", "StartChildWorkflow:CopyTable"),
    ]


def test_whatever_a_loop_does_on_nobody_s_behalf_is_a_trace_of_its_own_linked_to_its_run(told):
    runs = {span.attributes["temporalRunID"]: span for span in told.collector.spans if is_run(span)}
    own = [span for span in told.collector.spans if not span.parent and "temporalRunID" in span.attributes]
    begun = {span.name for span in own}
    assert begun >= {"StartActivity:capture_changes", "StartActivity:ingest_batch"}
    for span in own:
        assert span.links == (runs[span.attributes["temporalRunID"]].trace,)
    others = {span.name for span in told.collector.spans if not span.parent} - begun
    assert others == {"icefleet cdc install", "StartWorkflow:MergeMirror", "icefleet maintain"}


def is_run(span: SeenSpan) -> bool:
    return span.name.startswith("RunWorkflow:")


def test_what_a_capture_asks_of_postgresql_is_in_the_trace_of_its_turn(told):
    for name in ("postgresql replication", "postgresql copy"):
        ways = {tuple(told.collector.path(span)) for span in told.collector.named(name)}
        assert (name, "RunActivity:capture_changes", "StartActivity:capture_changes") in ways


def test_upkeep_of_a_changelog_and_of_a_mirror_is_in_the_trace_of_whoever_asked_for_it(told):
    (asked,) = told.collector.named("icefleet maintain")
    for activity in ("keep_changelog", "tidy_mirror"):
        found = told.collector.named(f"RunActivity:{activity}", asked.trace)
        assert found
        for span in found:
            assert told.collector.path(span)[-1] == "icefleet maintain"
    for answer in ("kept", "answer"):
        (back,) = told.collector.named(f"HandleSignal:{answer}", asked.trace)
        assert told.collector.path(back)[-1] == "icefleet maintain"


def test_every_span_has_its_parent_and_none_is_told_twice_however_often_workflows_are_replayed(told):
    assert told.collector.broken_links() == []
    assert told.collector.twice() == []
