"""Answers of a catalog that do not say whether a commit landed, and what must not come of them."""

import pytest

from support.faultproxy import Answer, AnswerInstead, CutAfter, CutBefore, CutBody, HttpFaults

LANDED = [
    *(
        pytest.param(AnswerInstead(status, b"{}"), id=f"{status} after it landed")
        for status in (409, 500, 502, 503, 504)
    ),
    pytest.param(CutAfter(), id="cut after it landed"),
    pytest.param(CutBody(20), id="answer cut in the middle"),
]
"""The commit is made, and whoever sent it does not hear so."""
NOT_LANDED = [
    *(pytest.param(Answer(status, b"{}"), id=f"{status} before it was forwarded") for status in (409, 500, 503)),
    pytest.param(CutBefore(), id="cut before it was forwarded"),
]
"""The commit is not made, which looks the same from where it was sent."""


def deletions(s3: HttpFaults) -> list[str]:
    """The paths that the store was asked to delete."""
    return [seen.path for seen in s3.seen if seen.method == "DELETE" or "?delete" in seen.path]
