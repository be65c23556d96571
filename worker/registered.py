"""The workflows that workers know, by the queue in which they live, and what runs of them share."""

from collections.abc import Mapping

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.adopt_files import AdoptFiles
from workflows.backfill import Backfill
from workflows.capture_changes import CaptureChanges
from workflows.copy_table import CopyTable
from workflows.delete_orphans import DeleteOrphans
from workflows.export_due import ExportDue
from workflows.export_table import ExportTable
from workflows.ingest_changelog import IngestChangelog
from workflows.install_capture import InstallCapture, UninstallCapture
from workflows.maintain_changelog import MaintainChangelog
from workflows.maintain_tables import MaintainTables
from workflows.merge_mirror import MergeMirror
from workflows.merge_once import MergeOnce
from workflows.request_export import RequestExport
from workflows.settle_letters import SettleLetters
from workflows.upkeep import Upkeep
from workflows.verify_mirror import VerifyMirror
from workflows.verify_table import VerifyTable

WORKFLOWS: Mapping[str, tuple[type, ...]] = {
    "control": (
        RequestExport,
        ExportDue,
        Backfill,
        DeleteOrphans,
        Upkeep,
        MaintainTables,
        AdoptFiles,
        ExportTable,
        VerifyTable,
    ),
    "cdc": (
        InstallCapture,
        UninstallCapture,
        CaptureChanges,
        IngestChangelog,
        CopyTable,
        SettleLetters,
        MaintainChangelog,
    ),
    "merge": (MergeMirror, MergeOnce, VerifyMirror),
}
"""By the keys of `activities.contracts.queues.WORK`; queues that are not here hold activities only."""

SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("activities.contracts")
)
"""Every run of a workflow loads the workflows' modules for itself, so that none can leave anything to another. The
contracts hold nothing that changes and look at nothing; to load them as well was most of what a run cost to begin."""
