"""The ids that the SDK gives to spans: at random, but for those of workflows, which a replay must come to again."""

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from worker.workflow_spans import wanted


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
