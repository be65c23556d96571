"""Sending updates to the catalog by hand, and judging what came of it."""

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import requests
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, RESTError
from pyiceberg.table import Table
from pyiceberg.table.update import (
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    AssertTableUUID,
    TableRequirement,
    TableUpdate,
)

from activities.lake.catalog import REFUSALS, Lake, says_no

TRIES = 20
"""Races against other writers that one call may lose."""
WAIT_SECONDS = 0.05


def tries() -> Iterator[bool]:
    """Whether updates may still be sent: TRIES times, with pauses between them, and a last time only to look.

    So what became of the last try is known before anybody is told.
    """
    for attempt in range(TRIES + 1):
        if attempt:
            time.sleep(random.uniform(0, WAIT_SECONDS * min(attempt, 10)))  # noqa: S311 - jitter, not a secret
        yield attempt < TRIES


@dataclass(frozen=True)
class Answer:
    """What the catalog said: updates that neither landed nor were refused may land at any time."""

    landed: bool
    refused: bool = False
    unanswered: Exception | None = None
    """What came instead of an answer; None when there was one."""


def send(
    lake: Lake, table: Table, updates: Iterable[TableUpdate], requirements: Iterable[TableRequirement] = ()
) -> Answer:
    """Send updates that were made for `table`: they land only on it, with the schema and spec that it has.

    Raises:
        CatalogRefused: the catalog does not accept the credential, or the request as such.
    """
    metadata = table.metadata
    own = (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        AssertDefaultSpecId.model_validate({"default-spec-id": metadata.default_spec_id}),
    )
    try:
        lake.catalog.commit_table(table, (*requirements, *own), tuple(updates))
    except CommitFailedException:
        return Answer(landed=False, refused=True)
    except NoSuchTableError:
        return Answer(landed=False)  # dropped meanwhile, which the next look at it says
    except REFUSALS as refused:
        raise lake.refusal(refused) from refused
    except (requests.RequestException, RESTError) as doubt:
        if says_no(doubt):
            raise lake.refusal(doubt) from doubt
        # Cut off, timed out or 5xx: it may have landed.
        return Answer(landed=False, unanswered=doubt)
    return Answer(landed=True)
