"""No failure gets into a history with a secret in it: what libraries say in exceptions is theirs to decide."""

import json
from collections.abc import Iterator
from dataclasses import replace

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadConverter

from worker.hidden import SECRETS, hidden_in


class HidingFailureConverter(DefaultFailureConverter):
    """Writes failures as Temporal itself would, without this process's secrets; reads them as they are."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Write what went wrong into `failure`, and into that what led to it."""
        super().to_failure(exception, payload_converter, failure)
        _hide_in(failure)


def _hide_in(failure: Failure) -> None:
    """Also in its causes: one that came from elsewhere is copied together with them."""
    failure.message = SECRETS.hide(failure.message)
    failure.stack_trace = SECRETS.hide(failure.stack_trace)
    for payload in _details(failure):
        _hide_in_payload(payload)
    if failure.HasField("cause"):
        _hide_in(failure.cause)


def _details(failure: Failure) -> Iterator[Payload]:
    yield from failure.application_failure_info.details.payloads
    yield from failure.canceled_failure_info.details.payloads
    yield from failure.timeout_failure_info.last_heartbeat_details.payloads


def _hide_in_payload(payload: Payload) -> None:
    if payload.metadata.get("encoding") != b"json/plain":
        return
    said = payload.data.decode()
    if SECRETS.hide(said) != said:
        # In its texts alone: a number in which a secret is found by chance must still be one.
        hidden = hidden_in(json.loads(said), SECRETS.hide)
        payload.data = json.dumps(hidden, separators=(",", ":"), sort_keys=True).encode()


HIDING = replace(DataConverter.default, failure_converter_class=HidingFailureConverter)
"""Temporal's own converter of everything else."""
