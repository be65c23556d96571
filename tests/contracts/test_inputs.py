"""What people type becomes the dataclass, or an error that names every field that is wrong."""

import dataclasses
import json
import string
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from activities.contracts.backfill import BackfillRequest
from activities.contracts.export import ExportRequest, LoopState
from activities.contracts.inputs import read_input, write_input

TYPES: dict[str, tuple[type, ...]] = {
    "table": (str,),
    "network": (str,),
    "environment": (str,),
    "from": (str, int),
    "to": (str, int),
    "force": (bool,),
    "allow_shrink": (bool,),
    "dry_run": (bool,),
    "oldest_first": (bool,),
    "priority": (int, type(None)),
    "max_partitions": (int,),
    "after": (str,),
}
"""Field → the JSON types that it takes."""
REQUIRED = {"table", "network"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
good_fields = st.fixed_dictionaries(
    {name: st.text() for name in REQUIRED},
    optional={
        name: st.one_of(
            *({str: st.text(), int: st.integers(), bool: st.booleans(), type(None): st.none()}[kind] for kind in kinds)
        )
        for name, kinds in TYPES.items()
        if name not in REQUIRED
    },
)


def refusal(payload: object, shape: type = ExportRequest) -> str:
    with pytest.raises(ApplicationError) as refused:
        read_input(shape, payload)
    assert (refused.value.type, refused.value.non_retryable) == ("BadRequest", True)
    return refused.value.message


def wrong_fields(payload: dict[str, Any]) -> set[str]:
    mistyped = {name for name, value in payload.items() if name in TYPES and type(value) not in TYPES[name]}
    return mistyped | (payload.keys() - TYPES.keys()) | (REQUIRED - payload.keys())


def test_the_fields_of_a_request_are_those_that_this_file_checks():
    assert {field.name.rstrip("_") for field in dataclasses.fields(ExportRequest)} == set(TYPES)


@given(good_fields)
def test_what_fits_is_read_and_written_back_as_it_was(payload):
    request = read_input(ExportRequest, payload)
    written = write_input(request)
    assert {name: written[name] for name in payload} == payload
    assert read_input(ExportRequest, json.loads(json.dumps(written))) == request


@given(json_values)
def test_any_json_value_is_read_or_refused_as_a_bad_request(payload):
    if isinstance(payload, dict) and not wrong_fields(payload):
        assert isinstance(read_input(ExportRequest, payload), ExportRequest)
    else:
        assert refusal(payload)


@given(json_values.filter(lambda value: not isinstance(value, dict)))
def test_what_is_no_object_is_refused_with_the_names_of_the_fields(payload):
    message = refusal(payload)
    assert message.startswith("the input must be one JSON object with the fields table, network, environment, from, to")
    assert message.endswith(f"it is {payload!r}")


@given(
    good_fields,
    st.dictionaries(st.sampled_from(sorted(TYPES)), json_values),
    st.sets(st.sampled_from(sorted(REQUIRED))),
)
def test_a_refusal_names_every_field_that_is_wrong_and_no_other(good, changes, dropped):
    payload = {name: value for name, value in {**good, **changes}.items() if name not in dropped}
    wrong = wrong_fields(payload)
    assume(wrong)
    problems = refusal(payload)
    named = {
        name for name in TYPES if f"field {name!r} must be " in problems or f"field {name!r} is missing" in problems
    }
    # A value may happen to spell such a sentence; names that are wrong must be there in any case.
    assert wrong <= named
    quoted = json.dumps(payload)
    assert named - wrong <= {name for name in TYPES if f"field '{name}'" in quoted}


@given(st.text(string.ascii_letters + "_", min_size=1).filter(lambda name: name not in TYPES))
def test_an_unknown_field_is_named(name):
    assert refusal({"table": "t", "network": "n", name: 1}).startswith(f"unknown field {name!r}: ")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"network": "n"}, "field 'table' is missing; it must be a text"),
        ({"table": 7, "network": "n"}, "field 'table' must be a text; it is 7"),
        ({"table": "t", "network": "n", "force": "yes"}, "field 'force' must be true or false; it is 'yes'"),
        ({"table": "t", "network": "n", "force": 1}, "field 'force' must be true or false; it is 1"),
        ({"table": "t", "network": "n", "from": True}, "field 'from' must be a text or a whole number; it is True"),
        ({"table": "t", "network": "n", "to": 1.5}, "field 'to' must be a text or a whole number; it is 1.5"),
        ({"table": "t", "network": "n", "priority": "1"}, "field 'priority' must be a whole number or null; it is '1'"),
        ({"table": "t", "network": "n", "form": "2024-03-20"}, "unknown field 'form': did you mean 'from'?"),
        ({"table": "t", "network": "n", "dryrun": True}, "unknown field 'dryrun': did you mean 'dry_run'?"),
        ({"table": "t", "network": "n", "from_": 1}, "unknown field 'from_': did you mean 'from'?"),
        (
            {"tabel": "t", "network": "n", "force": None},
            (
                "unknown field 'tabel': did you mean 'table'?; field 'table' is missing; it must be a text; "
                "field 'force' must be true or false; it is None"
            ),
        ),
    ],
)
def test_the_words_of_a_refusal(payload, message):
    assert refusal(payload) == message


def test_a_field_that_resembles_none_comes_with_the_list_of_all():
    message = refusal({"table": "t", "network": "n", "xyz": 1})
    assert message == f"unknown field 'xyz': the fields are {', '.join(TYPES)}"


def test_lists_and_objects_are_called_by_their_names():
    state = {"environment": "local", "table": "t", "network": "n"}
    assert refusal({**state, "active": {}}, LoopState) == "field 'active' must be a list; it is {}"
    assert refusal({**state, "served": None}, LoopState) == "field 'served' must be a list; it is None"


def test_the_elements_of_a_list_are_checked_and_the_first_that_is_wrong_is_named():
    good = {"tables": ["blocks", "canonical_*"], "networks": []}
    assert read_input(BackfillRequest, good) == BackfillRequest(["blocks", "canonical_*"])
    assert refusal({"tables": "blocks"}, BackfillRequest) == "field 'tables' must be a list; it is 'blocks'"
    assert refusal({"tables": ["a", 7, None], "networks": [True]}, BackfillRequest) == (
        "field 'tables': element 2 must be a text; it is 7; field 'networks': element 1 must be a text; it is True"
    )
