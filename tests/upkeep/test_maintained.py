"""What a request for upkeep of many tables makes of what their loops say, and what it hands to its next run."""

import json

from activities.contracts.maintain import CHANGELOG, EXPORT, LISTED_PROBLEMS, MIRROR, MaintainedTable
from activities.contracts.mirrors import OrderReport
from activities.contracts.upkeep import UpkeepReport
from workflows.maintained import Maintained, Outcome

BLOCKS = MaintainedTable("mainnet.blocks", EXPORT)
ORDERS = MaintainedTable("cdc.orders_changelog", CHANGELOG, "shop", "cdc")
SHOP = MaintainedTable("shop.orders", MIRROR, task_queue="merge")
ALL = [BLOCKS, ORDERS, SHOP]


def begun(*tables):
    state = Maintained()
    state.begin(list(tables))
    for table in state.next_page(len(tables)):
        state.begun(table)
    return state


def test_sums_are_those_of_all_kinds_and_what_had_nothing_to_do_is_not_listed():
    state = begun(*ALL)
    state.ended(BLOCKS, Outcome.of_report(UpkeepReport(status="nothing_to_do")))
    done = UpkeepReport(status="complete", message="done", expired=3, deleted=5, freed=70, manifests=7, compacted=9)
    state.ended(ORDERS, Outcome.of_report(done))
    counts = {"expired": 2, "deleted": 1, "freed": 30}
    state.ended(SHOP, Outcome.of_order(OrderReport("done", "tidied", counts=counts), dry_run=False))
    report = state.closed(dry_run=False)
    assert (report.status, report.tables, report.ended) == ("complete", 3, {"nothing_to_do": 1, "complete": 2})
    assert (report.expired, report.deleted, report.freed, report.manifests, report.compacted) == (5, 6, 100, 7, 9)
    assert [one.table for one in report.each] == ["cdc.orders_changelog", "shop.orders"]
    assert report.message.startswith("3 tables: 5 snapshots expired, 6 objects deleted (100 bytes), 7 manifests less")


def test_what_failed_or_was_done_in_part_is_named_with_its_table_and_the_others_count():
    state = begun(*ALL)
    state.ended(BLOCKS, Outcome("failed", "no such bucket", "StoreRefused", "operator"))
    problem = UpkeepReport(status="partial", message="m", expired=0, problems=["no snapshot expires: NATS is away"])
    state.ended(ORDERS, Outcome.of_report(problem))
    state.ended(SHOP, Outcome.of_order(OrderReport("done", "tidied", problem="Unknown: the index"), dry_run=False))
    report = state.closed(dry_run=False)
    assert (report.status, report.cause, report.who) == ("partial", "StoreRefused", "operator")
    assert report.problems == [
        "mainnet.blocks: StoreRefused: no such bucket",
        "cdc.orders_changelog: no snapshot expires: NATS is away",
        "shop.orders: Unknown: the index",
    ]
    assert "3 tables failed or were done in part: mainnet.blocks: StoreRefused" in report.message


def test_a_dry_run_says_what_would_be_done():
    state = begun(*ALL)
    state.ended(ORDERS, Outcome.of_report(UpkeepReport(status="dry_run", expired=4)))
    state.ended(BLOCKS, Outcome.of_report(UpkeepReport(status="dry_run")))
    state.ended(SHOP, Outcome.of_order(OrderReport("done", "tidied"), dry_run=True))
    report = state.closed(dry_run=True)
    assert (report.status, report.ended, [one.table for one in report.each]) == (
        "dry_run",
        {"dry_run": 3},
        ["cdc.orders_changelog"],
    )
    assert "4 snapshots would be expired" in report.message


def test_the_next_run_goes_on_where_this_one_was_and_its_size_is_bounded():
    state = Maintained()
    state.begin(ALL)
    [first] = state.next_page(1)
    state.begun(first)
    state.ended(first, Outcome("failed", "m" * 10_000, "StoreRefused", "operator", problems=["p"] * 500))
    went_on = Maintained.load(json.loads(json.dumps(state.dump())))
    assert (went_on.left, went_on.next_page(9)) == ([ORDERS, SHOP], [ORDERS, SHOP])
    assert went_on.report.each[0].table == first.table
    assert went_on.progress()["left"] == 2
    for number in range(300):
        went_on.ended(MaintainedTable(f"a.t{number}", EXPORT), Outcome("failed", "m" * 999, "X", "us"))
    assert len(went_on.report.problems) == LISTED_PROBLEMS
    assert len(json.dumps(went_on.dump())) < 300_000


def test_what_is_under_way_and_what_went_wrong_is_shown():
    state = begun(BLOCKS, SHOP)
    state.ended(BLOCKS, Outcome("failed", "no such bucket", "StoreRefused", "operator"))
    text = state.details()
    assert text.splitlines()[0] == "**1 of 2 tables** (1 failed)"
    assert "- under way: shop.orders" in text
    assert "- mainnet.blocks: StoreRefused: no such bucket" in text
