"""Sending updates to the catalog by hand, and judging what came of it."""

from collections.abc import Iterable
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
