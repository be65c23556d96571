"""The ids that the SDK gives to spans: at random, but for those that were decided before.

A replay of a workflow must come to the same ones again, and who was asked something may have been told of its span.
"""

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from activities.noted import wanted


class DecidedIds(RandomIdGenerator):
    """Random ids, unless `wanted` says otherwise."""

    def generate_span_id(self) -> int:
        """64 bits."""
        decided = wanted.get()
        return super().generate_span_id() if decided is None else decided[1]

    def generate_trace_id(self) -> int:
        """128 bits, of a span that begins a trace."""
        decided = wanted.get()
        return super().generate_trace_id() if decided is None else decided[0]
