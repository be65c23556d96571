"""The tag by which a mirror holds what it has merged of its changelog against expiry."""

from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import AssertRefSnapshotId, SetSnapshotRefUpdate

from activities.core.mirrors import MirrorConfig, Watermark
from activities.lake.catalog import Lake
from activities.lake.changescan import tag_name
from activities.lake.sending import send

ADVANCED_AFTER_MS = 60_000
"""The tag moves on once it is so much older than the watermark: each move is a commit to the changelog."""


def advance_tag(lake: Lake, config: MirrorConfig, watermark: Watermark) -> bool:
    """Put the tag on the changelog's snapshot that the watermark names, or leave it when it is not much older.

    Answers whether it was moved. When another writer was faster, it is moved with the next turn.

    Raises:
        CatalogRefused: there is no right to change the changelog.
        CatalogUnavailable: the catalog does not answer.
    """
    changelog, name = lake.load(config.changelog), tag_name(config)
    wanted = watermark.snapshot_id if watermark.snapshot_id is not None else watermark.partial_snapshot
    if changelog is None or wanted is None or str(changelog.metadata.table_uuid) != watermark.changelog_uuid:
        return False
    if not _is_due(changelog, name, wanted):
        return False
    held = changelog.metadata.refs.get(name)
    moved = {"ref-name": name, "type": SnapshotRefType.TAG, "snapshot-id": wanted}
    as_read = {"ref": name, "snapshot-id": held.snapshot_id if held else None}
    answer = send(
        lake,
        changelog,
        [SetSnapshotRefUpdate.model_validate(moved)],
        [AssertRefSnapshotId.model_validate(as_read)],
    )
    if answer.unanswered is not None:
        raise lake.unavailable(f"changelog {config.changelog}: tag {name} was not moved", answer.unanswered)
    return answer.landed


def _is_due(changelog: Table, name: str, wanted: int) -> bool:
    there = changelog.snapshot_by_id(wanted)
    if there is None:
        return False  # expired already: an older tag still shows what was there before
    held = changelog.metadata.refs.get(name)
    before = changelog.snapshot_by_id(held.snapshot_id) if held is not None else None
    if before is None:
        return True
    later = there.timestamp_ms - before.timestamp_ms
    # Earlier: the mirror began again, and the tag holds nothing of what it needs.
    return later >= ADVANCED_AFTER_MS or (before.sequence_number or 0) > (there.sequence_number or 0)
