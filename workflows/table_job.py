"""What a table's loop does beside exports: work in pages between which it looks up, on a table that stands still."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from activities.contracts.export import SubmittedRequest
from activities.contracts.inputs import read_input
from activities.contracts.reports import Report

AnyRequest = TypeVar("AnyRequest")
AnyReport = TypeVar("AnyReport", bound=Report)


@dataclass
class TableJob(ABC, Generic[AnyRequest, AnyReport]):
    """One such request under way. Nothing else of the table is in flight while a page of it is served."""

    request_shape: ClassVar[type]
    report_shape: ClassVar[type]
    state: ClassVar[tuple[str, ...]] = ()
    """Fields of the job, beside its report, that a loop takes along when it continues as new: plain JSON."""

    submitted: SubmittedRequest
    request: AnyRequest
    report: AnyReport

    priority: ClassVar[int] = 0
    """Served before the next page of any export."""
    plan: ClassVar[None] = None

    @classmethod
    def begin(cls, submitted: SubmittedRequest) -> Self:
        """The job that a request asks for."""
        return cls(submitted, read_input(cls.request_shape, submitted.request), cls.report_shape())

    @abstractmethod
    async def serve_page(self, queue: str) -> None:
        """Have the next page done by whoever serves that task queue, and count what it did."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the last page is done."""

    @property
    @abstractmethod
    def outcome(self) -> str:
        """The status that the request ends with once it is finished."""

    @property
    def only_looks(self) -> bool:
        """Whether the table stays as it is: a dry run."""
        return bool(getattr(self.request, "dry_run", False))

    @abstractmethod
    def closing_message(self, identifier: str) -> str:
        """One sentence for people: what became of the request."""

    @abstractmethod
    def details(self) -> list[str]:
        """The request as Markdown lines for the Temporal UI."""

    def failed(self, _: str, cause: str, __: str, who: str) -> None:
        """Remember why a page failed, and who must act."""
        self.report.cause, self.report.who = cause, who

    def progress(self) -> dict[str, Any]:
        """The request as the progress query shows it."""
        return {"id": self.submitted.id, **asdict(self.report)}

    def dump(self) -> dict[str, object]:
        """Everything as plain JSON."""
        return {
            "submitted": asdict(self.submitted),
            "report": asdict(self.report),
            **{name: getattr(self, name) for name in self.state},
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Self:
        """What `dump` gave, read back."""
        job = cls.begin(SubmittedRequest(**dumped["submitted"]))
        job.report = cls.report_shape(**dumped["report"])
        for name in cls.state:
            setattr(job, name, dumped[name])
        return job
