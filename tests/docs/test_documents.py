"""What the documents tell people to type is there, and takes what they are told to give it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer._click.exceptions import ClickException  # typer brings a click of its own

from activities.contracts import adopt, backfill, cdc, due, export, maintain, mirrors, orphans, upkeep, verify
from activities.contracts.inputs import read_input
from starter.main import build
from support.documents import ROOT, Line, anchors, documents, links, shell_lines, words_of

MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
TEMPORAL = Path(sys.executable).with_name("temporal")
REQUESTS = {
    "RequestExport": export.ExportRequest,
    "ExportDue": due.DueRequest,
    "Backfill": backfill.BackfillRequest,
    "DeleteOrphans": orphans.OrphansRequest,
    "Upkeep": upkeep.UpkeepRequest,
    "MaintainTables": maintain.MaintainRequest,
    "AdoptFiles": adopt.AdoptRequest,
    "VerifyTable": verify.VerifyRequest,
    "SettleLetters": cdc.LettersRequest,
    "MergeOnce": mirrors.MergeOnceRequest,
    "VerifyMirror": mirrors.VerifyMirrorInput,
}
"""What people may start, and what it reads its input as."""
QUEUES = {export.TASK_QUEUE, "icefleet-cdc", "icefleet-merge"}


def commands(*names: str) -> list[Line]:
    """Every command of these names in every document; what opens a brace is a block of somebody's config."""
    lines = [line for path in documents() for line in shell_lines(path) if not line.text.endswith("{")]
    return [line for line in lines if line.text.split(" ")[0] in names]


def ids(lines: list[Line]) -> list[str]:
    return [f"{line.path.relative_to(ROOT)}:{line.number}" for line in lines]


ICEFLEET = commands("icefleet")
STARTED = [line for line in commands("temporal") if line.text.startswith("temporal workflow start")]
MADE = commands("make")


def parse(words: list[str]) -> None:
    """Read a command line as `icefleet` does, and do nothing.

    Raises:
        ClickException: there is no such command, option or value.
    """
    command = typer.main.get_command(build(words))
    context = None
    while True:
        context = command.make_context(command.name or "icefleet", list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def test_documents_were_found_and_tell_people_to_type_something():
    assert len(documents()) > 30
    assert len(ICEFLEET) > 80
    assert len(STARTED) >= 4
    assert len(MADE) >= 2


@pytest.mark.parametrize("line", ICEFLEET, ids=ids(ICEFLEET))
def test_every_command_of_ours_in_a_document_is_one(line: Line):
    words = words_of(line)[1:]
    try:
        parse(words)
    except typer.Exit:
        assert "--help" in words
    except ClickException as wrong:
        pytest.fail(f"{line}\n{wrong.format_message()}")


def test_a_command_that_is_none_would_be_seen():
    with pytest.raises(ClickException, match="--forse"):
        parse(["export", "blocks", "-n", "mainnet", "--forse"])
    with pytest.raises(ClickException, match="No such command"):
        parse(["mirrors", "marge"])


@pytest.mark.parametrize("line", STARTED, ids=ids(STARTED))
def test_every_workflow_that_a_document_starts_reads_that_input(line: Line):
    words = words_of(line)
    options = {word: words[place + 1] for place, word in enumerate(words[:-1]) if word.startswith("--")}
    shape = REQUESTS[options["--type"]]
    assert options["--task-queue"] in QUEUES
    assert isinstance(read_input(shape, json.loads(options["--input"])), shape)


@pytest.mark.parametrize("line", MADE, ids=ids(MADE))
def test_every_make_target_in_a_document_is_one(line: Line):
    targets = [word for word in words_of(line)[1:] if "=" not in word and not word.startswith("-")]
    assert targets
    assert set(targets) <= MAKE_TARGETS


def test_the_temporal_command_knows_every_option_that_documents_give_it():
    seen: set[str] = set()
    for line in commands("temporal"):
        words = words_of(line)
        group = [word for word in words[1:4] if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        key = " ".join([*group, *sorted(options)])
        if key in seen:
            continue
        seen.add(key)
        program = str(TEMPORAL) if TEMPORAL.exists() else shutil.which("temporal")
        assert program
        told = "".join(
            subprocess.run([program, *words], capture_output=True, text=True, check=True, timeout=30).stdout
            for words in ([*group, "--help"], ["options"])  # the second has those of all commands
        )
        assert [option for option in options if option not in told] == [], str(line)
    assert seen


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(path: Path):
    broken = []
    for number, target in links(path):
        place, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (path.parent / place).resolve() if place else path
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            broken.append(f"{path.relative_to(ROOT)}:{number}: {target}")
    assert broken == []
