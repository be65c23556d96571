"""Trouble that may pass: once it has lasted for some minutes it is told to the world, once however often it comes."""

from dataclasses import asdict, dataclass
from typing import Any

from temporalio import workflow

LASTS_SECONDS = 180.0
"""After that somebody should know. The attempts of one merge take longer, so what ended all of them is told at once."""


@dataclass
class Lasting:
    """What turns have been failing with, one after the other."""

    cause: str = ""
    """The name of the last one's fault; empty: the last turn ended well."""
    message: str = ""
    since: float = 0.0
    """When the first of them began, in seconds since 1970."""

    def failed(self, began: float, cause: str, message: str) -> None:
        """A turn that began then has failed."""
        self.since = self.since if self.cause else began
        self.cause, self.message = cause, message

    def over(self) -> None:
        """A turn ended well, or somebody has mended something."""
        self.cause, self.message, self.since = "", "", 0.0

    def told(self, before: str) -> tuple[str, str]:
        """The fault's name, and with its message; empty: none has lasted.

        What was told `before` of the same fault is told still: messages differ in what nobody needs to hear of again.
        """
        if not self.cause or workflow.time() < self.since + LASTS_SECONDS:
            return "", ""
        said = f"{self.cause}: "
        return self.cause, before if before.startswith(said) else said + self.message

    def dump(self) -> dict[str, Any]:
        """What the next run takes over."""
        return asdict(self)
