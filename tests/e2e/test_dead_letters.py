"""An event that cannot be written: told with its cause, and nothing of its key overtakes it (case 63)."""

import pytest

from activities import failpoints, ingest_metrics
from activities.clients import buffer_letters
from activities.clients.buffer_status import letters, status
from activities.core.faults import LockTaken
from support.buffers import NARROW, SCHEMA, Event, delete, insert, schema_event, truncate, update
from support.ingests import opened, shared_place
from support.measured import measured

shared, fleet, postgres = shared_place()


TOO_WIDE = "123456789012.00"
"""More digits than the source's column has."""


@pytest.fixture
def told():
    """What waits for people, as OpenTelemetry was told last: stopped tables and letters."""
    with measured(ingest_metrics) as points:

        def numbers():
            found = points()
            return tuple(found[f"icefleet.cdc.{name}"][0][1] for name in ("stopped_tables", "waiting_letters"))

        yield numbers


async def poisoned(ingest) -> None:
    """Key 1 has a poison event in its middle; key 2 none, before, between and behind."""
    await ingest.producer.transaction(schema_event(), insert(1), insert(2))
    await ingest.producer.transaction(update(1, "poison", TOO_WIDE), update(2, "two"))
    await ingest.producer.transaction(update(1, "later"), delete(2))
    await ingest.batch()


async def waiting(ingest) -> list[tuple[int, int | None, str]]:
    return [(letter.event_id, letter.behind, letter.cause) for letter in await letters(ingest.buffer)]


def names(ingest, number: int = 1) -> list[str | None]:
    """What the changelog says of one key, in the order in which it says it."""
    table = ingest.table()
    found = []
    for snapshot in table.snapshots():
        rows = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().to_pylist()
        rows.sort(key=lambda row: row["cdc_sequence_number"])
        found += [row for row in rows if row not in found and row["id"] == number]
    return [row["name"] for row in found]


async def test_its_keys_later_events_wait_behind_it_and_other_keys_go_on_case_63(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await poisoned(ingest)
        assert ingest.said() == [("insert", 1), ("insert", 2), ("update", 2), ("delete", 2)]
        (first, behind, cause), second = await waiting(ingest)
        assert (first, behind) == (4, None)
        assert "amount" in cause
        assert second == (6, 4, "waits behind event 4")
        # Also in batches that come later, of whatever kind, but never those of other keys.
        await ingest.producer.transaction(delete(1), insert("1", "text is the same key"), insert(3), truncate())
        report = await ingest.batch()
        assert (report.events, report.tables[0].dead_letters) == (2, 2)
        assert [behind for _, behind, _ in await waiting(ingest)] == [None, 4, 4, 4]
        _, [table] = await status(ingest.buffer)
        assert (table.dead_letters, table.waiting_behind, table.buffered_events) == (1, 3, 0)


async def test_a_letter_that_was_mended_and_what_waits_behind_it_come_in_order_case_63(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await poisoned(ingest)
        # This one is in the buffer while the letter is requeued, and must not overtake it.
        await ingest.producer.transaction(update(1, "last"))
        report = await ingest.settle("requeue", letters=[6])
        assert report.status == "failed"
        assert "waits behind 4, which is of the same key" in report.message
        await postgres.run(
            f"UPDATE {SCHEMA}.dead_letters SET new_row = jsonb_set(new_row, '{{amount}}', '3') WHERE event_id = 4"
        )
        report = await ingest.settle("requeue", letters=[4])
        assert (report.status, report.changed, report.released) == ("done", 1, 2)
        again = await ingest.settle("requeue", letters=[4])
        assert (again.status, again.changed, again.released) == ("done", 0, 0)
        await ingest.drain()
        assert names(ingest) == ["a", "poison", "later", "last"]
        assert await waiting(ingest) == []


async def test_a_letter_that_is_dropped_for_a_reason_lets_the_rest_go_on_case_63(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await poisoned(ingest)
        assert (await ingest.settle("drop", table="orders")).message.startswith("reason: say why")
        report = await ingest.settle("drop", table="orders", reason="a mistake of the shop's")
        assert (report.status, report.changed, report.released) == ("done", 1, 1)
        await ingest.drain()
        assert names(ingest) == ["a", "later"]
        [dropped] = [letter for letter in await letters(ingest.buffer, every=True) if letter.state == "dropped"]
        assert (dropped.event_id, dropped.reason, dropped.new_row["name"]) == (4, "a mistake of the shop's", "poison")


async def test_one_that_is_still_poison_waits_again_with_all_that_is_behind_it_case_63(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await poisoned(ingest)
        await ingest.settle("requeue", table="public.orders")
        await ingest.batch()
        (first, behind, cause), (_, second_behind, _) = await waiting(ingest)
        assert behind is None
        assert "amount" in cause
        assert second_behind == first > 6
        assert names(ingest) == ["a"]


async def test_settled_letters_go_after_their_days_once_what_was_requeued_is_carried_over(fleet, postgres):
    async with opened(fleet, postgres) as ingest:

        async def known_after_an_hour():
            await postgres.run(f"UPDATE {SCHEMA}.pipeline SET purged_at = '-infinity'")
            await ingest.batch()
            return [letter.event_id for letter in await letters(ingest.buffer, every=True)]

        await poisoned(ingest)
        await ingest.settle("requeue", table="orders")
        await ingest.batch()
        assert await known_after_an_hour() == [4, 6, 8, 9]
        age = f"UPDATE {SCHEMA}.dead_letters SET resolved_at = resolved_at - interval '%s days'"
        await postgres.run(age % 29)
        assert await known_after_an_hour() == [4, 6, 8, 9]
        await postgres.run(age % 2, f"UPDATE {SCHEMA}.tables SET state = 'stopped'")
        await ingest.producer.transaction(insert(9))
        await postgres.run(f"UPDATE {SCHEMA}.events SET received_at = received_at - interval '40 days'")
        assert await known_after_an_hour() == [4, 6, 8, 9]
        await postgres.run(f"UPDATE {SCHEMA}.tables SET state = 'active'")
        await ingest.batch()
        assert await known_after_an_hour() == [4, 8, 9]
        assert await known_after_an_hour() == [8, 9]
        assert [number for number, *_ in await waiting(ingest)] == [8, 9]


async def test_two_poison_events_of_one_key_wait_one_behind_the_other_case_63(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1, "x", TOO_WIDE), insert(1, "y", "NaN"), insert(2))
        await ingest.producer.transaction(Event("insert", {"id": 5, "name": "z"}), Event("update", key=("id",)))
        report = await ingest.batch()
        assert (report.events, report.tables[0].dead_letters) == (1, 4)
        found = await waiting(ingest)
        assert [behind for _, behind, _ in found] == [None, 2, None, None]
        assert "missing" in found[2][2]
        assert "no row" in found[3][2]


@pytest.mark.parametrize("point", ["cdc-before-upload", "cdc-before-commit", "cdc-after-commit"])
async def test_a_crash_between_the_letter_and_the_mark_brings_nothing_twice_case_63(fleet, postgres, point):
    async with opened(fleet, postgres) as ingest:

        class PowerCutError(BaseException):
            pass

        async def cut() -> None:
            failpoints.disarm()
            raise PowerCutError

        failpoints.arm(point, cut)
        with pytest.raises(PowerCutError):
            await poisoned(ingest)
        # A person is faster than the next batch: the letter's first self is still in the buffer, unmarked.
        assert len(await waiting(ingest)) == 2
        await postgres.run(
            f"UPDATE {SCHEMA}.dead_letters SET new_row = jsonb_set(new_row, '{{amount}}', '3') WHERE event_id = 4"
        )
        await ingest.settle("requeue", letters=[4])
        await ingest.drain()
        assert names(ingest) == ["a", "poison", "later"]
        assert len(ingest.rows()) == 6


async def test_what_cannot_be_settled_says_why(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        wrong = [
            ("forget", {}, "action 'forget': it is one of requeue, drop, resume-table"),
            ("requeue", {}, "table: name it as schema.table"),
            ("requeue", {"letters": [99]}, "no dead letter 99; `icefleet cdc dead-letters` lists them"),
            ("resume-table", {"table": "orders"}, "table public.orders is not stopped"),
        ]
        for action, fields, message in wrong:
            report = await ingest.settle(action, **fields)
            assert report.status == "failed"
            assert message in report.message


async def test_nothing_overtakes_a_letter_whose_key_is_renamed_and_its_cause_says_what_to_edit_case_63(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1), update(1, "poison", TOO_WIDE))
        await ingest.batch()
        renamed = schema_event([NARROW[0] | {"name": "ident"}, *NARROW[1:]], key=("ident",))
        later = Event("update", {"ident": 1, "name": "later", "amount": "3"}, key=("ident",))
        await ingest.producer.transaction(renamed, later)
        await ingest.batch()
        assert [row["name"] for row in ingest.rows()] == ["a"]
        assert [behind for _, behind, _ in await waiting(ingest)] == [None, 3]
        mended = f"UPDATE {SCHEMA}.dead_letters SET new_row = new_row || '{{\"amount\": 3}}' WHERE event_id = 3"
        await postgres.run(mended)
        await ingest.settle("requeue", table="orders")
        await ingest.batch()
        (again, _, cause), (_, behind, _) = await waiting(ingest)
        assert behind == again
        assert "renamed in the letter's rows, key_columns and unchanged" in cause
        assert cause.endswith("columns that the table does not have: id")
        assert [letter.key for letter in await letters(ingest.buffer)] == [{"id": "1"}, {"ident": "1"}]
        await postgres.run(
            f"UPDATE {SCHEMA}.dead_letters SET key_columns = '{{ident}}',"
            f" new_row = new_row - 'id' || '{{\"ident\": 1}}' WHERE event_id = {again}"
        )
        await ingest.settle("requeue", table="orders")
        await ingest.drain()
        assert [row["name"] for row in ingest.rows()] == ["a", "poison", "later"]


async def test_stopped_tables_and_letters_that_wait_for_a_person_are_told_until_they_do_not(fleet, postgres, told):
    async with opened(fleet, postgres) as ingest:
        await poisoned(ingest)
        await postgres.run(f"INSERT INTO {SCHEMA}.tables VALUES ('public', 'gone', 'stopped', 'why')")
        await ingest.batch()
        assert told() == (1, 1)
        await ingest.settle("drop", table="orders", reason="a mistake of the shop's")
        await postgres.run(f"UPDATE {SCHEMA}.tables SET state = 'active'")
        await ingest.batch()
        assert told() == (0, 0)


async def test_a_table_with_too_many_letters_stops_alone_and_goes_on_exactly_once_they_are_settled(fleet, postgres):
    buffer = postgres.config(schema=SCHEMA, max_dead_letters=2, max_events=7)
    async with opened(fleet, postgres, buffer=buffer) as ingest:
        await poisoned(ingest)
        # Producers hear of config's limits as well.
        assert await postgres.rows(f"SELECT wait, max_events FROM {SCHEMA}.room()") == [(False, 7)]
        # Two wait, which is no more than the limit; with the batch of this one there are three.
        await ingest.producer.transaction(update(1, "third"))
        assert not (await ingest.batch()).tables[0].stopped
        await ingest.producer.transaction(update(1, "last"), insert(3))
        await ingest.producer.transaction(schema_event(table="other"), insert(1, table="other"))
        stopped, other = sorted((await ingest.batch()).tables, key=lambda table: not table.stopped)
        assert "more than 2 events wait as dead letters" in stopped.failed
        assert "icefleet cdc resume --table public.orders" in stopped.failed
        assert (other.table, other.failed, other.events) == ("public.other", "", 1)
        assert len(await waiting(ingest)) == 3
        assert await ingest.tables() == {"orders": ("stopped", 2), "other": ("active", 0)}
        # Whoever resumes it without having settled anything is told again.
        await ingest.settle("resume-table", table="orders")
        assert (await ingest.batch()).tables[0].stopped
        await ingest.settle("drop", letters=[4], reason="a test row")
        await ingest.settle("resume-table", table="orders")
        await ingest.drain()
        assert names(ingest) == ["a", "later", "third", "last"]
        assert (names(ingest, 3), await waiting(ingest)) == (["a"], [])


async def test_a_decision_does_not_wait_for_a_producers_large_transaction_and_keeps_no_batch_waiting(
    fleet, postgres, monkeypatch
):
    monkeypatch.setattr(buffer_letters, "PRODUCERS_TIMEOUT", "50ms")
    async with opened(fleet, postgres) as ingest:
        await poisoned(ingest)
        async with await postgres.settings.connect() as producing, producing.transaction():
            await ingest.producer.write(producing, [insert(7)])
            with pytest.raises(LockTaken, match="large transaction into the buffer"):
                await ingest.settle("requeue", letters=[4])
        assert (await ingest.settle("requeue", letters=[4])).changed == 1


async def test_an_order_to_resume_whose_answer_was_lost_is_done_when_it_is_tried_again(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        await ingest.batch()
        await postgres.run(f"UPDATE {SCHEMA}.tables SET state = 'stopped'")
        assert (await ingest.settle("resume-table", table="orders")).status == "done"
        again = await ingest.settle("resume-table", table="orders", attempt=2)
        assert (again.status, again.message) == ("done", "table public.orders goes on")
        assert (await ingest.settle("resume-table", table="other", attempt=2)).status == "failed"


def moved(old: int, new: int, amount: str = "2.00", **more) -> tuple[Event, Event]:
    """A row gets another key, and a name so long that it is not logged again: its value is that of the row deleted."""
    return delete(old, **more), Event("insert", {"id": new, "amount": amount}, unchanged=["name"], **more)


def brought(ingest) -> list[list[tuple[str, int]]]:
    """Operation and id of what each snapshot brought, in order."""
    table, known, found = ingest.table(), set(), []
    for snapshot in table.snapshots():
        rows = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().to_pylist()
        new = [row for row in rows if row["cdc_sequence_number"] not in known]
        known |= {row["cdc_sequence_number"] for row in new}
        new.sort(key=lambda row: row["cdc_sequence_number"])
        found.append([(row["cdc_operation"], row["id"]) for row in new])
    return [new for new in found if new]


@pytest.mark.parametrize("waits", ["old key", "new key", "insert"])
async def test_the_halves_of_a_changed_key_wait_together_if_one_has_values_of_the_other_case_63(fleet, postgres, waits):
    """A mirror knows what the insert lacks only while the row is there that the delete takes away."""
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1, "long"), insert(3))
        poison = {"old key": [update(1, "p", TOO_WIDE)], "new key": [insert(5, "p", TOO_WIDE), delete(5)]}
        await ingest.producer.transaction(*poison.get(waits, [update(3)]))
        await ingest.producer.transaction(update(3), *moved(1, 5, TOO_WIDE if waits == "insert" else "2.00"), update(3))
        # In the same batch, and in a later one: both keys have moved on, the new one once more.
        await ingest.producer.transaction(*moved(5, 7), insert(1))
        await ingest.batch()
        await ingest.producer.transaction(update(7), update(3), *moved(7, 9), insert(5))
        await ingest.batch()
        assert {number for _, number in ingest.said()} == {1, 3}
        assert [row["id"] for row in ingest.rows() if row["cdc_operation"] != "update"] == [1, 3]
        found = await waiting(ingest)
        assert sum(behind is None for _, behind, _ in found) == 1
        root = next(number for number, behind, _ in found if behind is None)
        assert {behind for _, behind, _ in found} == {None, root}
        mended = f"UPDATE {SCHEMA}.dead_letters SET new_row = new_row || '{{\"amount\": 3}}' WHERE event_id = {root}"
        await postgres.run(mended)
        await ingest.settle("requeue", letters=[root])
        await ingest.drain()
        assert await waiting(ingest) == []
        assert brought(ingest)[-1][-9:] == [
            *[("delete", 1), ("insert", 5), ("delete", 5), ("insert", 7), ("insert", 1)],
            *[("update", 7), ("delete", 7), ("insert", 9), ("insert", 5)],
        ]


async def test_of_a_changed_key_whose_halves_wait_for_two_letters_none_goes_on_before_both_case_63(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1, "long"), insert(3))
        await ingest.producer.transaction(insert(5, "p", TOO_WIDE), delete(5), update(1, "p", TOO_WIDE))
        await ingest.producer.transaction(*moved(1, 5))
        await ingest.producer.transaction(update(5), insert(1))
        await ingest.batch()
        five, one = (number for number, behind, _ in await waiting(ingest) if behind is None)
        mended = f"UPDATE {SCHEMA}.dead_letters SET new_row = new_row || '{{\"amount\": 3}}'"
        await postgres.run(mended + " WHERE event_id = " + str(one))
        await ingest.settle("requeue", letters=[one])
        await ingest.drain()
        assert ingest.said() == [("insert", 1), ("insert", 3), ("update", 1)]
        await postgres.run(mended + " WHERE event_id = " + str(five))
        await ingest.settle("requeue", letters=[five])
        await ingest.drain()
        assert await waiting(ingest) == []
        assert brought(ingest)[-1] == [
            *[("insert", 5), ("delete", 5), ("delete", 1), ("insert", 5), ("update", 5), ("insert", 1)]
        ]
