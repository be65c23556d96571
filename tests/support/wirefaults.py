"""What may happen to a request on the wire, and which requests it strikes."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """Answer without forwarding: the part never hears of the request."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(frozen=True)
class AnswerInstead:
    """Forward, wait for the part's answer, and answer something else: the request has landed."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(frozen=True)
class CutBefore:
    """Cut the connection without forwarding."""


@dataclass(frozen=True)
class CutAfter:
    """Forward, wait for the part's answer, and cut the connection: the request has landed."""


@dataclass(frozen=True)
class CutBody:
    """Forward, and cut the connection after `after_bytes` of the answer's body."""

    after_bytes: int


@dataclass(frozen=True)
class HoldBody:
    """Forward `after_bytes` of the answer's body, set `held`, and keep the rest until `released` is set."""

    after_bytes: int
    held: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class CutUpload:
    """Forward `after_bytes` of the request's body, then cut both connections."""

    after_bytes: int


@dataclass(frozen=True)
class Delay:
    """Wait before forwarding."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Keep the request until `released` is set, then forward it; a client that leaves takes it along."""

    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class HoldAnswer:
    """Forward, and keep the part's answer until `released` is set: the request has landed."""

    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Late:
    """Cut the connection at once, and forward the request nevertheless when `released` is set.

    The request is kept in memory: for small ones, such as commits.
    """

    released: asyncio.Event = field(default_factory=asyncio.Event)


Fault = (
    Answer | AnswerInstead | CutBefore | CutAfter | CutBody | CutUpload | Delay | Hold | HoldAnswer | HoldBody | Late
)


@dataclass(frozen=True)
class Seen:
    """A request that came by."""

    method: str
    path: str
    """With the query string, as it was sent."""
    headers: "dict[str, str]"


@dataclass
class Rule:
    """Which requests a fault strikes, and how often it may."""

    fault: Fault
    method: str
    path: re.Pattern[str]
    when: Callable[[Seen], bool]
    times: int | None
    times_struck: int = 0
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first request is struck."""
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the part has answered a struck request."""

    def takes(self, request: Seen) -> bool:
        """Whether the fault strikes this request; it is counted then."""
        if self.times is not None and self.times_struck >= self.times:
            return False
        if self.method not in ("", request.method) or not self.path.search(request.path) or not self.when(request):
            return False
        self.times_struck += 1
        self.struck.set()
        return True
