"""docs/formats/events.md has every field of every event, by the name that it has in JSON."""

import re

import pytest

from icefleet.v1 import events_pb2
from support.documents import ROOT

TEXT = (ROOT / "docs/formats/events.md").read_text()
MESSAGES = {
    name: [field.json_name for field in message.fields]
    for name, message in events_pb2.DESCRIPTOR.message_types_by_name.items()
}


@pytest.mark.parametrize("message", MESSAGES)
def test_every_field_of_an_event_is_written_down(message: str):
    written = set(re.findall(r"`(\w+)`", TEXT))
    assert sorted(set(MESSAGES[message]) - written) == []


def test_no_field_is_written_down_that_no_event_has():
    rows = [line.split("|")[1] for line in TEXT.splitlines() if re.match(r"\| `[a-z]\w*`", line)]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    known = {name for fields in MESSAGES.values() for name in fields} | {"traceparent"}
    assert sorted(named - known) == []
