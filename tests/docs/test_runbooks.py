"""Whoever is woken up finds a runbook for each fault (those of alerts: tests/docs/test_alerts.py)."""

import re

import pytest

from activities.core import faults
from support.documents import ROOT

BOOKS = ROOT / "docs" / "runbooks"
ROWS = re.findall(r"^\| (`.*?) \| \[[^\]]+\]\((faults/\w[\w-]*\.md)\)", (BOOKS / "README.md").read_text(), re.MULTILINE)
BOOK_OF = {name: book for names, book in ROWS for name in re.findall(r"`(\w+)`", names)}
FAULTS = [fault.__name__ for fault in faults.Fault.__subclasses__()]


@pytest.mark.parametrize("fault", [*FAULTS, "Bug", "TimedOut", "WorkerStopped", "WrongDoor"])
def test_every_fault_has_a_runbook_that_speaks_of_it(fault: str):
    assert f"`{fault}`" in (BOOKS / BOOK_OF[fault]).read_text()


@pytest.mark.parametrize("book", sorted({book for _, book in ROWS}))
def test_a_runbook_says_how_to_look_what_to_do_and_when_it_is_over(book: str):
    text = (BOOKS / book).read_text()
    assert [part for part in ("## Look", "## Mend", "## It is over when") if part not in text] == []
    assert re.search(r"^\s*(icefleet|temporal) ", text, re.MULTILINE)
