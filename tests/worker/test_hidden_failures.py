"""What histories keep of a failure holds no secret, and is otherwise what Temporal makes of it."""

import json

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter
from temporalio.exceptions import ActivityError, ApplicationError

from worker.hidden import SECRETS
from worker.hidden_failures import HIDING

PASSWORD = "open-sesame-7731"
NUMBER = "73519842"


@pytest.fixture(autouse=True)
def secrets():
    SECRETS.learn(f"somebody:{PASSWORD}")
    SECRETS.learn(NUMBER)


def written(wrong, converter=HIDING):
    failure = Failure()
    converter.failure_converter.to_failure(wrong, converter.payload_converter, failure)
    return failure


def read(failure):
    return HIDING.failure_converter.from_failure(failure, HIDING.payload_converter)


def login(said):
    raise OSError(f"login {said} refused")


def ask(said, details):
    try:
        login(said)
    except OSError as cause:
        raise ApplicationError(f"no {said}", details, type="Bug", non_retryable=True) from cause


def refused(said, details):
    """An error with a cause of its own, both raised."""
    with pytest.raises(ApplicationError) as caught:
        ask(said, details)
    return caught.value


def test_message_details_and_causes_are_written_without_secrets():
    failure = written(refused(PASSWORD, {"asked": [f"http://u:{PASSWORD}@h"], "rows": int(NUMBER + "0")}))
    assert PASSWORD.encode() not in failure.SerializeToString()
    found = read(failure)
    assert isinstance(found, ApplicationError)
    assert (found.message, found.type, found.non_retryable) == ("no ********", "Bug", True)
    assert found.cause.message == "login ******** refused"
    assert "in ask" in failure.stack_trace
    assert "in login" in failure.cause.stack_trace


def test_a_number_in_which_a_secret_is_found_by_chance_is_still_a_number():
    details = {"asked": PASSWORD, "rows": int(NUMBER + "0")}
    [found] = read(written(refused("nobody", details))).details
    assert found == {"asked": "********", "rows": int(NUMBER + "0")}


def test_a_failure_that_is_handed_on_is_hidden_with_its_stack_traces_and_causes():
    """As an activity's failure that its workflow fails with, which a worker of another version wrote."""
    there = Failure(message=f"activity {PASSWORD}", stack_trace=f"at {PASSWORD}")
    there.activity_failure_info.activity_id = "1"
    there.cause.message, there.cause.stack_trace = f"no {PASSWORD}", f"below {PASSWORD}"
    said = Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(PASSWORD).encode())
    there.cause.timeout_failure_info.last_heartbeat_details.payloads.append(said)
    there.cause.cause.canceled_failure_info.details.payloads.append(said)
    handed_on = read(there)
    assert isinstance(handed_on, ActivityError)
    failure = written(handed_on)
    assert PASSWORD.encode() not in failure.SerializeToString()
    assert (failure.stack_trace, failure.cause.stack_trace) == ("at ********", "below ********")
    assert failure.cause.timeout_failure_info.last_heartbeat_details.payloads[0].data == b'"********"'
    assert PASSWORD in there.message  # what was received is left as it is


def test_a_failure_without_a_secret_is_written_as_temporal_writes_it():
    wrong = refused("nobody", {"who must act": "us", "rows": [1, None, "ä"]})
    assert written(wrong) == written(wrong, DataConverter.default)
