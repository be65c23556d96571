"""Trouble that may pass: once it has lasted for some minutes it is told to the world, once however often it comes."""

from dataclasses import asdict, dataclass, field
from typing import Any

from temporalio import workflow

LASTS_SECONDS = 180.0
"""After that somebody should know. The attempts of one merge take longer, so what ended all of them is told at once."""


@dataclass
class Lasting:
    """What one kind of work has been failing with, time after time."""

    causes: dict[str, str] = field(default_factory=dict)
    """The name of each fault → what it said first: messages differ in what nobody needs to hear of again. Empty: the
    last try ended well."""
    since: float = 0.0
    """When the first try that failed began, in seconds since 1970."""
    lasts: bool = False
    """Whether it was still failing after LASTS_SECONDS."""

    def failed(self, began: float, cause: str, message: str) -> None:
        """A try that began then has failed."""
        self.since = self.since if self.causes else began
        self.causes.setdefault(cause, message)
        self.lasts = self.lasts or workflow.time() >= self.since + LASTS_SECONDS

    def over(self) -> None:
        """A try ended well, or somebody has mended something."""
        self.causes, self.since, self.lasts = {}, 0.0, False

    @property
    def told(self) -> dict[str, str]:
        """What is to be told, as `causes`, each with its name before it; empty: nothing has lasted.

        A cause that comes and goes while others come stays until all is well: to tell of each change to and fro is news
        to nobody.
        """
        return self.said if self.lasts else {}

    @property
    def said(self) -> dict[str, str]:
        """The same, whether it has lasted or not."""
        return {cause: f"{cause}: {message}" for cause, message in self.causes.items()}

    def dump(self) -> dict[str, Any]:
        """What the next run takes over."""
        return asdict(self)
