"""The taxonomy of failures: closed, documented, and all that activities raise."""

import ast
import re
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationErrorCategory

import activities.core.faults as tree
from activities.contracts.cdc import CdcActivities
from activities.contracts.export import ExportActivities, ExportLimits
from activities.contracts.mirrors import MirrorActivities
from activities.contracts.queues import QueueActivities
from activities.contracts.verify import VerifyActivities
from activities.core.faults import Fault
from activities.errors import to_application_error, to_bug
from workflows import policies
from workflows.policies import commit_policy, export_policy

ROOT = Path(__file__).parents[2]
FAULTS = {name: found for name, found in vars(tree).items() if isinstance(found, type) and issubclass(found, Fault)}
DOCS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
LEAVES = {name: (found.actor, found.retryable) for name, found in FAULTS.items() if found is not Fault}
OURS_TO_MEND = {
    ("activities/clients/pieces.py", "error_from_result"),  # psycopg's own, which its caller makes a fault
    # A mistake in code of ours, which no input and no config can bring about.
    ("activities/failpoints.py", "ValueError"),
    ("activities/core/partitions.py", "ValueError"),
    # What the stubs would do if nobody implemented them.
    ("activities/contracts/export.py", "NotImplementedError"),
    ("activities/contracts/verify.py", "NotImplementedError"),
    ("activities/contracts/cdc.py", "NotImplementedError"),
    ("activities/contracts/mirrors.py", "NotImplementedError"),
    ("activities/contracts/queues.py", "NotImplementedError"),
    ("activities/lake/indexstaging.py", "ValueError"),
    # A file that is damaged, for whoever reads it and knows what it is.
    ("activities/lake/puffin.py", "ValueError"),
    ("activities/lake/indexhead.py", "ValueError"),
    ("activities/lake/indexmoves.py", "ValueError"),
    ("activities/lake/segmentfile.py", "ValueError"),
    ("activities/lake/indexentries.py", "ValueError"),
    # What makes a merge build the index anew.
    ("activities/lake/indexadvance.py", "IndexUnusable"),
    ("activities/lake/indexhead.py", "IndexUnusable"),
    ("activities/lake/indexstore.py", "IndexUnusable"),
    ("activities/mirror_head.py", "IndexUnusable"),
    # What does not leave its room: a turn that is over, a slot that is given up.
    ("activities/capturing.py", "_TimeIsUpError"),
    ("activities/watching.py", "TooMuchRetainedError"),
    ("activities/lake/rowdelta.py", "HeadMoved"),
    ("activities/lake/rowdelta.py", "TableGone"),
    ("activities/lake/changereading.py", "TooWide"),
    ("activities/lake/mirrorcheck.py", "Stopped"),
    ("activities/lake/mirrornames.py", "Unknown"),
    # A fault that was collected, and is raised once nothing else is left to do.
    ("activities/partitions.py", "faults[0]"),
    ("activities/announcing_changelogs.py", "faults[0]"),
    ("activities/abreast.py", "answer"),
    ("activities/abreast.py", "first"),
    ("activities/abreast.py", "second"),
    ("activities/abreast.py", "failed.exceptions[0]"),
    ("activities/tidying.py", "passing"),
    ("activities/ingesting.py", "failures[0]"),
}


def rows(text: str, columns: int) -> list[list[str]]:
    """The cells of the table lines of a Markdown text that begin with a name in backticks."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line] for line in lines if len(line) == columns]


def test_the_tree_is_flat_so_that_every_fault_is_one_of_the_list():
    assert all(found.__bases__ == (Fault,) for found in FAULTS.values() if found is not Fault)
    assert len(LEAVES) > 15


def test_docs_docstring_and_classes_say_the_same_of_every_fault():
    faults = DOCS.partition("## Faults")[2].partition("## Activities")[0]
    documented = {name.strip("`"): (actor, again == "yes") for name, actor, again, _, _ in rows(faults, 5)}
    assert documented == LEAVES
    listed = re.findall(r"[├└]── (\w+) +(\w+) .*?(retryable)?$", tree.__doc__ or "", re.MULTILINE)
    assert {name: (actor, bool(again)) for name, actor, again in listed} == LEAVES


def span(time: timedelta) -> str:
    seconds = int(time.total_seconds())
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def test_docs_and_policies_say_the_same_of_every_activity():
    # Limits of config are told by numbers that nothing else has.
    limits = ExportLimits(
        parallel_partitions=1,
        partitions_per_commit=1,
        pages_per_run=1,
        heartbeat_seconds=1001,
        partition_timeout_seconds=1002,
        partition_attempts=1003,
        commit_attempts=1004,
        retry_initial_seconds=11,
        small_partition_rows=1,
        partitions_per_activity=1,
        rows_per_commit=1,
    )
    names = {
        "1001 s": "`heartbeat_seconds`",
        "1002 s": "`partition_timeout_seconds`",
        "1003": "`partition_attempts`",
        "1004": "`commit_attempts`",
        "11 s": "`retry_initial_seconds`",
    }
    used = {
        "find_queues": policies.DELIVER,
        "list_networks": policies.DELIVER,
        "deliver_request": policies.DELIVER,
        "withdraw_request": policies.DELIVER,
        "resolve_backfill": policies.RESOLVE,
        "estimate_table": policies.ESTIMATE,
        "plan_partitions": policies.PLAN,
        "export_partitions": export_policy(limits),
        "commit_partitions": commit_policy(limits),
        "delete_orphans": policies.DELETE_ORPHANS,
        "expire_snapshots": policies.EXPIRE,
        "refresh_public": policies.REFRESH,
        "merge_manifests": policies.MERGE_MANIFESTS,
        "resolve_maintenance": policies.RESOLVE_MAINTENANCE,
        "adopt_files": policies.ADOPT,
        "announce_snapshots": policies.ANNOUNCE,
        "look_at_partitions": policies.LOOK,
        "compare_values": policies.COMPARE,
        "publish_metadata": policies.PUBLISH,
        "publish_findings": policies.ANNOUNCE,
        "signal_loop": policies.DELIVER,
        "stop_loops": policies.STOP_LOOPS,
        "install_capture": policies.INSTALL,
        "uninstall_capture": policies.INSTALL,
        "capture_changes": policies.CAPTURE_TURN,
        "watch_slot": policies.WATCH_SLOT,
        "ingest_batch": policies.INGEST_TURN,
        "copy_table": policies.COPY,
        "announce_changelogs": policies.ANNOUNCE,
        "keep_changelog": policies.KEEP,
        "settle_letters": policies.SETTLE,
        "merge_mirror": policies.MERGE,
        "rebuild_index": policies.REMAKE,
        "bootstrap_mirror": policies.REMAKE,
        "compact_mirror": policies.COMPACT,
        "tidy_mirror": policies.TIDY,
        "verify_mirror": policies.COMPARE,
        "tell_trouble": policies.ANNOUNCE,
        "watch_mirror": policies.WATCH_MIRROR,
        "signal_mirror": policies.DELIVER,
    }
    expected = {}
    for activity, policy in used.items():
        retry, beat = policy["retry_policy"], policy.get("heartbeat_timeout")
        longest = retry.maximum_interval or 100 * retry.initial_interval  # Temporal's own rule
        longest_text = f"{int(longest.total_seconds())} s" if longest == timedelta(seconds=100) else span(longest)
        first = span(retry.initial_interval)
        cells = [
            span(policy["start_to_close_timeout"]),
            span(beat) if beat else "none",
            str(retry.maximum_attempts or "no end"),
        ]
        pause = f"{names.get(first, first)}, doubling up to {longest_text}"
        expected[activity] = [*(names.get(cell, cell) for cell in cells), pause]
    table = DOCS.partition("## Activities")[2]
    assert {name.strip("`"): cells for name, *cells in rows(table, 5)} == expected
    seams = (ExportActivities, VerifyActivities, CdcActivities, MirrorActivities, QueueActivities)
    stubs = {name: stub for seam in seams for name, stub in vars(seam).items()}
    declared = {name for name, stub in stubs.items() if callable(stub) and name[0] != "_"}
    assert set(expected) == declared
    for name in declared:
        assert name in (policies.__doc__ or "")


def test_all_that_activities_raise_is_a_fault():
    sources = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "activities").rglob("*.py")}
    answering = {
        node.name
        for parsed in sources.values()
        for node in ast.walk(parsed)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None
        if ast.unparse(node.returns).strip("'\"") in {*FAULTS, "ApplicationError"}
    }
    strange = []
    for path, parsed in sources.items():
        for node in ast.walk(parsed):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            raised = node.exc.value if isinstance(node.exc, ast.Await) else node.exc
            called = raised.func if isinstance(raised, ast.Call) else raised
            name = called.attr if isinstance(called, ast.Attribute) else ast.unparse(called)
            where = path.relative_to(ROOT).as_posix()
            if name not in {*FAULTS, *answering} and (where, name) not in OURS_TO_MEND:
                strange.append(f"{where}:{node.lineno}: {name}")
    assert strange == []


@pytest.mark.parametrize("fault", [found for found in FAULTS.values() if found is not Fault])
def test_a_fault_keeps_its_name_its_words_and_who_must_act_in_temporal(fault: type[Fault]):
    failure = to_application_error(fault("here is what is wrong"))
    assert (failure.type, failure.message) == (fault.__name__, "here is what is wrong")
    assert failure.details == ({"who must act": fault.actor},)
    assert failure.non_retryable == (not fault.retryable)
    assert (failure.category == ApplicationErrorCategory.BENIGN) == (fault.actor == "nobody")


def test_what_is_no_fault_is_a_bug_and_ours():
    failure = to_bug(KeyError("rows"))
    assert (failure.type, failure.details, failure.non_retryable) == ("Bug", ({"who must act": "us"},), False)
    assert failure.message.startswith("KeyError: 'rows'; please report this")
