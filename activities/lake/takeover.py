"""Changelogs that are to go on although they are not as their pipeline left them."""

from activities.core.faults import ChangelogForeign
from activities.lake.catalog import Lake
from activities.lake.changelog import BUFFER, PIPELINE, POSITION, SNAPSHOT, state_of
from activities.lake.sending import Attempt, given_up, landed_in, tries
from activities.lake.storage import metadata_named


@metadata_named()
def take_over(lake: Lake, identifier: str, *, buffer_id: str, pipeline: str, position: int) -> None:
    """Let a changelog, as it is now, go on from event `position` of a buffer: a person has decided so.

    Its history shows that by a snapshot which changes no rows.

    Raises:
        ChangelogForeign: the table is gone, or is no changelog of a pipeline.
        CommitConflict: other writers won every try.
        CatalogUnavailable: the catalog cannot be reached, or answers every try with an error.
    """
    sent: list[Attempt] = []
    for may_send in tries():
        table = lake.load(identifier)
        if table is None:
            raise ChangelogForeign(f"changelog {identifier} is not in the catalog any more; resume the table again")
        state_of(table)
        if landed_in(table, sent):
            return
        if may_send:
            said = {PIPELINE: pipeline, POSITION: str(position)}
            sent.append(Attempt(table))
            sent[-1].snapshot(said)
            sent[-1].change_properties({**said, BUFFER: buffer_id, SNAPSHOT: str(sent[-1].snapshot_id)})
            if sent[-1].send(lake):
                return
    raise given_up(lake, identifier, sent[-1], "look for a foreign writer, then resume the table again")
