"""What is asked of other parts, noted while it is asked; the SDK makes its spans later, many in one go.

In the middle of an export, the SDK's way to a span costs several times what it costs where many are made one after the
other: hardly anything of that code and its data is still in the processor's caches. All that must happen at once is to
note the time, and to give the span its id where the asked part is told of it.
"""

import secrets
import time
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

MANY = 64
"""Requests that have ended are no more than this before their spans are made."""
LONG_NS = 5 * 10**9
"""Nor does one wait for longer than this once another one ends; as long as the SDK itself then keeps spans."""

wanted: ContextVar[tuple[int, int] | None] = ContextVar("icefleet_wanted_ids", default=None)
"""Trace and span id of the span that is being made; `worker.span_ids` has the SDK take them."""


class Noted(NonRecordingSpan):
    """A request that is being made: its time, attributes and outcome; the SDK knows nothing of it until `make_spans`.

    It takes neither events nor exceptions, nor a new name; once it has ended, nothing more.
    """

    def __init__(self, tracer: Tracer, name: str, asking: Span, attributes: dict[str, AttributeValue]) -> None:
        """It begins now; `asking` is the span that it belongs to, which is recorded."""
        self._tracer = tracer
        self._name = name
        self._asking = asking
        self._attributes = attributes
        self._own: SpanContext | None = None
        """Its ids, if anybody has asked for them."""
        self._status: Status | None = None
        self._begun = time.time_ns()
        self._ended = 0

    def get_span_context(self) -> SpanContext:
        """The ids that its span will have."""
        if self._own is None:
            above = self._asking.get_span_context()
            own = secrets.randbits(64) or 1
            self._own = SpanContext(above.trace_id, own, False, above.trace_flags, above.trace_state)  # noqa: FBT003 - not remote
        return self._own

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Say more of it."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Say more of it."""
        if not self._ended:
            self._attributes.update(attributes)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it ends."""
        if not self._ended:
            self._status = status if isinstance(status, Status) else Status(status, description)

    def end(self, end_time: int | None = None) -> None:
        """It ends now, or did then (unix nanoseconds); only once."""
        if self._ended:
            return
        self._ended = end_time or time.time_ns()
        _waiting.add(self, self._ended)

    def make(self) -> None:
        """Have the SDK make its span: sampled, limited and sent as any other."""
        token = None if self._own is None else wanted.set((self._own.trace_id, self._own.span_id))
        try:
            span = self._tracer.start_span(
                self._name,
                trace.set_span_in_context(self._asking, Context()),
                kind=SpanKind.CLIENT,
                attributes=self._attributes,
                start_time=self._begun,
            )
        finally:
            if token is not None:
                wanted.reset(token)
        if self._status is not None:
            span.set_status(self._status)
        span.end(end_time=self._ended)


class _Waiting:
    """Requests that have ended, in that order; any thread may add some, or have their spans made."""

    def __init__(self) -> None:
        self._requests: deque[Noted] = deque()
        self._since = 0
        """When the first of them was added."""

    def add(self, request: Noted, now: int) -> None:
        if not self._requests:
            self._since = now
        self._requests.append(request)
        if len(self._requests) >= MANY or now - self._since > LONG_NS:
            self.make()

    def make(self) -> None:
        while self._requests:
            try:
                request = self._requests.popleft()
            except IndexError:  # another thread was faster
                return
            request.make()


_waiting = _Waiting()


def make_spans() -> None:
    """Make the spans of all requests that have ended: where an activity ends, and before the last spans are sent."""
    _waiting.make()
