"""What a loop knows of an adoption survives its continuing as new, and stays small however many files are refused."""

import json
from dataclasses import asdict

from activities.contracts.adopt import AdoptPage, RefusedFile
from activities.contracts.export import SubmittedRequest
from workflows.export_requests import begin, resume

ASKED = {"environment": "local", "table": "events", "network": "net", "from": "2024-03-01", "extra_columns": ["legacy"]}
SUBMITTED = SubmittedRequest("one", "door", ASKED, "adopt")


def page(*, cursor="", adopted=0, refused=0):
    listed = [RefusedFile(f"{number}.parquet", "type", "x is INT64") for number in range(min(100, refused))]
    reasons = {"type": refused} if refused else {}
    return AdoptPage(cursor, "7" if adopted else "", adopted, 1, 10, 100, 2, refused, reasons, listed, {"x": adopted})


def test_an_adoption_goes_on_after_its_loop_continued_as_new():
    job = begin(SUBMITTED)
    assert not job.finished
    job.took(page(cursor="a", adopted=3, refused=70))
    job = resume(json.loads(json.dumps(job.dump())))
    assert not job.finished
    asked = asdict(job.next_page())
    assert (asked["cursor"], asked["from_"], asked["extra_columns"]) == ("a", "2024-03-01", ["legacy"])
    job.took(page(adopted=2, refused=70))
    job = resume(json.loads(json.dumps(job.dump())))
    assert (job.finished, job.outcome) == (True, "partial")
    report = job.report
    assert (report.adopted, report.already_there, report.rows, report.not_asked, report.refused) == (5, 2, 20, 4, 140)
    assert (len(report.refusals), report.reasons, report.lacking) == (100, {"type": 140}, {"x": 5})
    assert report.refusals[99] == RefusedFile("29.parquet", "type", "x is INT64")
    assert report.snapshots == ["7", "7"]
    said = "5 files with 20 rows became part of net.events, 2 were there already, 140 refused (140 type)"
    assert job.closing_message("net.events") == said


def test_the_outcome_says_whether_all_is_there():
    for pages, outcome in (([page(adopted=1)], "complete"), ([page(refused=1)], "partial")):
        job = begin(SUBMITTED)
        for one in pages:
            job.took(one)
        assert job.outcome == outcome
    dry = begin(SubmittedRequest("one", "door", {**ASKED, "dry_run": True}, "adopt"))
    dry.took(page(adopted=1))
    assert (dry.outcome, dry.only_looks) == ("dry_run", True)
    assert dry.closing_message("net.events").startswith("1 files with 10 rows would become part of net.events")
