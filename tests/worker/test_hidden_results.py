"""What an activity answers holds no secret in what it says to people, and is otherwise as it was."""

import pytest

from activities.contracts.export import CommitInput, FailedPartition
from activities.contracts.upkeep import RefreshPage
from activities.contracts.verify import Finding, VerifyReport
from worker.hidden import SECRETS
from worker.hidden_results import hidden_sentences

PASSWORD = "open-sesame-5512"
SAID = f"login {PASSWORD} refused"


@pytest.fixture(autouse=True)
def secrets():
    SECRETS.learn(f"somebody:{PASSWORD}")


def test_what_an_answer_says_to_people_has_no_secret_at_any_depth():
    report = VerifyReport(message=SAID, findings=[Finding("unreadable", "2024-03-20", SAID)])
    hidden = hidden_sentences(report)
    assert (hidden.message, hidden.findings[0].message) == ("login ******** refused", "login ******** refused")
    failed = FailedPartition("2024-03-20", "SourceRefused", SAID)
    assert hidden_sentences([failed])[0].message == "login ******** refused"
    assert hidden_sentences(CommitInput("e", "t", "n", [], failed={"2024-03-20": SAID})).failed == {
        "2024-03-20": "login ******** refused"
    }


def test_what_is_no_sentence_stays_as_it_is_also_where_it_looks_like_a_secret():
    page = RefreshPage(began=1, cursor=PASSWORD, done=True, keys=[f"data/{PASSWORD}.parquet"], problem="busy")
    assert hidden_sentences(page) is page
    assert hidden_sentences(PASSWORD) == PASSWORD
    assert hidden_sentences(None) is None
