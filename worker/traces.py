"""Where spans go: by the standard OTEL_* variables, over OTLP/HTTP; nowhere, at no cost, when none is set."""

from collections.abc import Mapping

from opentelemetry import trace

from activities.noted import make_spans
from worker.hidden import SECRETS
from worker.leaving import within

FLUSH_SECONDS = 5.0
"""How long a process that leaves waits for a collector that does not answer."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
EXPORTERS = ("otlp", "console", "none")
HTTP = "http/protobuf"


def exporter_of(variables: Mapping[str, str]) -> str:
    """`otlp` or `console`; empty when nobody wants spans."""
    if variables.get("OTEL_SDK_DISABLED", "").strip().casefold() == "true":
        return ""
    named = variables.get("OTEL_TRACES_EXPORTER", "").strip().casefold()
    if named:
        return "" if named == "none" else named
    return "otlp" if any(variables.get(name) for name in ENDPOINTS) else ""


def problems_of_traces(variables: Mapping[str, str]) -> list[str]:
    """What is wrong with the variables that say where spans go."""
    wrong = []
    exporter = exporter_of(variables)
    if exporter and exporter not in EXPORTERS:
        wrong.append(f"OTEL_TRACES_EXPORTER must be one of {', '.join(EXPORTERS)}; it is {exporter!r}")
    protocol = next((variables[name] for name in PROTOCOLS if variables.get(name)), HTTP)
    if exporter == "otlp" and protocol != HTTP:
        wrong.append(f"OTEL_EXPORTER_OTLP_PROTOCOL must be {HTTP}; it is {protocol!r}")
    return wrong


def set_up_traces(variables: Mapping[str, str], resource: Mapping[str, str]) -> None:
    """Give all that is done from now on the ids of spans, and record them if somebody wants them.

    `resource` says whose they are; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say it better.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415 - a command seldom needs it
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # noqa: PLC0415

    from worker.span_ids import DecidedIds  # noqa: PLC0415

    exporter = exporter_of(variables)
    known = Resource.create({**resource, **OTELResourceDetector().detect().attributes})
    # When it is off, ids are all there is: commits and events carry them.
    provider = TracerProvider(
        sampler=None if exporter else ALWAYS_OFF, resource=known, id_generator=DecidedIds(), shutdown_on_exit=False
    )
    if exporter:
        _export(provider, exporter)
    trace.set_tracer_provider(provider)


def _export(provider: "trace.TracerProvider", exporter: str) -> None:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter  # noqa: PLC0415

    from worker.hidden_spans import HidingExporter  # noqa: PLC0415

    to: SpanExporter
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        to = OTLPSpanExporter()
    else:
        to = ConsoleSpanExporter()
    if isinstance(provider, TracerProvider):
        provider.add_span_processor(BatchSpanProcessor(HidingExporter(to, SECRETS.hide)))


def flush_traces() -> None:
    """Send what has been recorded, for some seconds at most: processes of ours leave by `os._exit`."""
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is None:
        return
    make_spans()
    within(FLUSH_SECONDS, shutdown)
