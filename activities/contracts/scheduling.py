"""The workflows that config/schedules.yaml may start, each with the shape of its input: the one list of them."""

from collections.abc import Mapping

from activities.contracts.due import DUE_WORKFLOW, DueRequest
from activities.contracts.export import ORPHANS_WORKFLOW, REQUEST_WORKFLOW, UPKEEP_WORKFLOW, ExportRequest
from activities.contracts.maintain import MAINTAIN_WORKFLOW, MaintainRequest
from activities.contracts.orphans import OrphansRequest
from activities.contracts.upkeep import UpkeepRequest
from activities.contracts.verify import VERIFY_WORKFLOW, VerifyRequest

SCHEDULABLE: Mapping[str, type] = {
    DUE_WORKFLOW: DueRequest,
    REQUEST_WORKFLOW: ExportRequest,
    ORPHANS_WORKFLOW: OrphansRequest,
    UPKEEP_WORKFLOW: UpkeepRequest,
    MAINTAIN_WORKFLOW: MaintainRequest,
    VERIFY_WORKFLOW: VerifyRequest,
}
