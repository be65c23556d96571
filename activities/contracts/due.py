"""What a Schedule starts: everything that is due of one table, in all of its networks."""

from dataclasses import dataclass, field

from activities.contracts.export import ExportReport
from activities.contracts.reports import Report

DUE_WORKFLOW = "ExportDue"


@dataclass(frozen=True)
class DueRequest:
    """Whatever is due of a table."""

    table: str
    environment: str = "local"
    networks: list[str] = field(default_factory=list)
    """Empty: all that config says."""
    max_partitions: int = 0
    """The most partitions to export of each network; 0: no bound."""


@dataclass
class NetworkReport:
    """What became of one network: the report of its loop, shortened, or why there is none."""

    network: str
    status: str
    message: str = ""
    cause: str = ""
    who: str = ""
    report: ExportReport | None = None


@dataclass
class DueReport(Report):
    """What became of all networks. Its status is the worst of theirs."""

    networks: list[NetworkReport] = field(default_factory=list)
