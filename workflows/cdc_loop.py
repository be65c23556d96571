"""What the loops of a pipeline have in common."""

from activities.contracts.cdc import INSTALL_WORKFLOW, PipelineRequest
from workflows.steered import SteeredLoop


class PipelineLoop(SteeredLoop[PipelineRequest]):
    """A loop of one pipeline."""

    kind = "pipeline"
    starts = f"{INSTALL_WORKFLOW}, or `icefleet cdc resume`, which start it"
    resumed_by = "icefleet cdc resume"

    def __init__(self) -> None:
        super().__init__(PipelineRequest(""))
