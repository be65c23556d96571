"""What an export loop knows of a request to delete its table's orphans. Plain state, no commands."""

from dataclasses import asdict, dataclass, field
from typing import Any

from activities.contracts.export import SubmittedRequest
from activities.contracts.inputs import read_input
from activities.contracts.orphans import LISTED_KEYS, OrphansInput, OrphansPage, OrphansReport, OrphansRequest


@dataclass
class OrphansUnderway:
    """One request under way, beside the `ActiveRequest`s of exports."""

    submitted: SubmittedRequest
    request: OrphansRequest
    line: int = 0
    """What was made before it may go, in seconds since the epoch; 0 until the first page has worked it out."""
    cursor: str = ""
    report: OrphansReport = field(default_factory=OrphansReport)

    priority = 0
    """Served before the next page of any export: it takes seconds."""
    plan = None

    def next_page(self) -> OrphansInput:
        """What to ask for next."""
        asked = self.request
        return OrphansInput(
            environment=asked.environment,
            table=asked.table,
            network=asked.network,
            older_than=asked.older_than,
            metadata=asked.metadata,
            dry_run=asked.dry_run,
            line=self.line,
            cursor=self.cursor,
        )

    def took(self, page: OrphansPage) -> None:
        """Count a page."""
        self.line, self.cursor = page.line, page.cursor
        report = self.report
        report.deleted += page.deleted
        report.bytes += page.bytes
        report.young += page.young
        report.foreign += page.foreign
        report.keys.extend(page.keys[: LISTED_KEYS - len(report.keys)])

    def failed(self, _: str, cause: str, __: str, who: str) -> None:
        """Remember why a page failed, and who must act."""
        self.report.cause, self.report.who = cause, who

    @property
    def finished(self) -> bool:
        """Whether everything has been looked at."""
        return bool(self.line) and not self.cursor

    @property
    def outcome(self) -> str:
        """The status that the request ends with once it is finished."""
        if self.request.dry_run:
            return "dry_run"
        return "complete" if self.report.deleted else "nothing_to_do"

    def closing_message(self, identifier: str) -> str:
        """One sentence for people: what became of the request."""
        report, age = self.report, self.request.older_than
        did = "would go" if self.request.dry_run else "deleted"
        text = f"{report.deleted} orphans of {identifier} older than {age} {did} ({report.bytes:,} bytes)"
        if report.young:
            text += f", {report.young} younger ones kept"
        if report.foreign:
            text += f", {report.foreign} of other origin left alone"
        return text

    def details(self) -> list[str]:
        """The request as Markdown lines for the Temporal UI."""
        report = self.report
        return [f"- `{self.submitted.id}`: {report.deleted} orphans deleted, {report.bytes:,} bytes"]

    def progress(self) -> dict[str, Any]:
        """The request as the progress query shows it."""
        return {"id": self.submitted.id, **asdict(self.report)}

    def dump(self) -> dict[str, object]:
        """Everything as plain JSON."""
        return {
            "submitted": asdict(self.submitted),
            "line": self.line,
            "cursor": self.cursor,
            "report": asdict(self.report),
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "OrphansUnderway":
        """What `dump` gave, read back."""
        submitted = SubmittedRequest(**dumped["submitted"])
        return cls(
            submitted=submitted,
            request=read_input(OrphansRequest, submitted.request),
            line=dumped["line"],
            cursor=dumped["cursor"],
            report=OrphansReport(**dumped["report"]),
        )
