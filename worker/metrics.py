"""Metrics of a worker: ours and Temporal's, as one text for Prometheus, and over OTLP.

Nothing is set up unless somebody asks for it: then instruments record nothing, and Temporal keeps no metrics either.
Temporal's SDK has an endpoint of its own, in Rust; it is bound to a free port of the loopback interface, and its text
put behind ours. To pass every update of the SDK through Python instead was some percent of a busy worker's time.
"""

import os
import platform
import socket
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from activities.core.faults import BadConfig
from worker.leaving import within
from worker.logs import core_logging

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.metrics.view import View
    from prometheus_client import CollectorRegistry
    from temporalio.runtime import OpenTelemetryConfig, PrometheusConfig, Runtime

SECONDS = (0.1, 0.5, 2, 10, 60, 600)
"""Bounds of all our histograms."""
TEMPORAL_SECONDS = (0.1, 1.0, 10.0, 100.0)
"""Bounds of Temporal's: each type of activity and workflow has some of these histograms."""
TEMPORAL_HISTOGRAMS = (
    *("activity_execution_latency", "activity_schedule_to_start_latency", "activity_succeed_endtoend_latency"),
    *("workflow_endtoend_latency", "workflow_task_execution_latency", "workflow_task_replay_latency"),
    *("workflow_task_schedule_to_start_latency", "request_latency", "long_request_latency"),
)
TOGETHER: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("merger.cycle.completed", "merger.rows.*", "merger.index.hits", "merger.index.misses"), ()),
    "merger.index.rebuilds": (),
    "icefleet.commit.conflicts": ("network",),
}
"""Counters of what is looked at for all tables together → the labels that they keep. Logs name the table."""
SCRAPE_SECONDS = 5.0
FLUSH_SECONDS = 3.0
"""For what was not sent yet, when the process leaves."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


log = structlog.get_logger("icefleet.metrics")


@dataclass(frozen=True)
class Metrics:
    """What a worker's metrics need and give; `close` it at the end."""

    runtime: "Runtime | None" = None
    """With which to connect to Temporal; None where nobody asks for its metrics."""
    _provider: "MeterProvider | None" = None
    _registry: "CollectorRegistry | None" = None
    _temporal_url: str = ""

    def render(self) -> bytes:
        """Everything in Prometheus' text format, in any thread; ours alone when the SDK does not answer."""
        if self._registry is None:
            return b""
        from prometheus_client import generate_latest  # noqa: PLC0415 - only workers that are scraped need it

        ours = generate_latest(self._registry)
        # By itself: a proxy of the environment is not asked for what is on loopback.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(self._temporal_url, timeout=SCRAPE_SECONDS) as answer:
                return ours + bytes(answer.read())
        except OSError as away:
            log.warning("Temporal's SDK does not tell its metrics", cause=str(away))
            return ours

    def close(self) -> None:
        """Send what was not sent yet."""
        if self._provider is not None:
            within(FLUSH_SECONDS, self._provider.shutdown)


NO_METRICS = Metrics()
"""Of a process whose metrics nobody asks for."""


@dataclass
class Asked:
    """What the standard variables ask for."""

    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def is_disabled(self) -> bool:
        """Whether the whole SDK is switched off."""
        return self.variables.get("OTEL_SDK_DISABLED", "").lower() == "true"

    @property
    def otlp_url(self) -> str:
        """Where metrics go by OTLP; empty when they do not."""
        exporters = self.variables.get("OTEL_METRICS_EXPORTER", "otlp").split(",")
        own = self.variables.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "")
        base = self.variables.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        if "otlp" not in {name.strip() for name in exporters} or self.is_disabled:
            return ""
        if not own and not base and "OTEL_METRICS_EXPORTER" in self.variables:
            base = "http://localhost:4318"  # as the specification has it
        return own or (f"{base.rstrip('/')}/v1/metrics" if base else "")

    @property
    def otlp_headers(self) -> dict[str, str]:
        """What goes with it."""
        from opentelemetry.util.re import parse_env_headers  # noqa: PLC0415 - only where OTLP is asked for

        common = self.variables.get("OTEL_EXPORTER_OTLP_HEADERS", "")
        text = self.variables.get("OTEL_EXPORTER_OTLP_METRICS_HEADERS", common)
        return dict(parse_env_headers(text, liberal=True))


def set_up_metrics(
    environment: str,
    *,
    service: str = "icefleet-worker",
    scraped: bool,
    asked: Asked | None = None,
) -> Metrics:
    """Make the process tell its metrics, once, before it connects to Temporal.

    `scraped` says whether anybody will ask for `Metrics.render`; OTLP is decided by the variables.

    Raises:
        BadConfig: Temporal's SDK refuses what the variables say of OTLP.
    """
    asked = asked or Asked()
    if asked.is_disabled or not (scraped or asked.otlp_url):
        return NO_METRICS
    from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider  # noqa: PLC0415 - off costs nothing
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    registry = CollectorRegistry() if scraped else None
    version = asked.variables.get("APP_VERSION", "")
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            "service.instance.id": f"{platform.node()}-{os.getpid()}",
            "deployment.environment.name": environment,
            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say it better, as they do of spans.
            **OTELResourceDetector().detect().attributes,
            "environment": environment,  # the label that rules and dashboards know
        }
    )
    # Traces as examples of what was counted take time at every count, and Prometheus is not told of them.
    examples = None if asked.variables.get("OTEL_METRICS_EXEMPLAR_FILTER") else AlwaysOffExemplarFilter()
    provider = MeterProvider(_readers(registry, asked), resource, views=_views(), exemplar_filter=examples)
    metrics.set_meter_provider(provider)
    _tell_worker(version)
    told, url = _temporal(asked, scraped=scraped)
    runtime = _runtime(environment, told)
    return Metrics(runtime, provider, registry, url)


def _readers(registry: "CollectorRegistry | None", asked: Asked) -> list["MetricReader"]:
    readers: list[MetricReader] = []
    if registry is not None:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415

        is_label = "environment".__eq__
        readers.append(
            PrometheusMetricReader(
                registry=registry,
                disable_target_info=True,
                scope_info_enabled=False,
                resource_attribute_filter=is_label,
            )
        )
    if asked.otlp_url:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415

        readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
    return readers


def _views() -> list["View"]:
    """What would be thousands of series: labels that are left out, and buckets that are few."""
    from opentelemetry.sdk.metrics import Histogram  # noqa: PLC0415
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View  # noqa: PLC0415

    few = ExplicitBucketHistogramAggregation(SECONDS)
    labels = {"step", "outcome", "phase"}  # times of single tables are in traces
    times = View(instrument_type=Histogram, instrument_name="*", attribute_keys=labels, aggregation=few)
    return [times, *(View(instrument_name=name, attribute_keys=set(keys)) for name, keys in TOGETHER.items())]


def _temporal(asked: Asked, *, scraped: bool) -> tuple["OpenTelemetryConfig | PrometheusConfig", str]:
    """How Temporal's SDK tells its own, and where its text is. It tells one of the two; Prometheus goes first."""
    from temporalio.runtime import OpenTelemetryConfig, PrometheusConfig  # noqa: PLC0415

    buckets = {f"temporal_{name}": TEMPORAL_SECONDS for name in TEMPORAL_HISTOGRAMS}
    if not scraped:
        return OpenTelemetryConfig(
            url=asked.otlp_url,
            headers=asked.otlp_headers,
            http=True,
            durations_as_seconds=True,
            histogram_bucket_overrides=buckets,
        ), ""
    address = f"127.0.0.1:{_free_port()}"
    return PrometheusConfig(
        bind_address=address,
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=buckets,
    ), f"http://{address}/metrics"


def _runtime(environment: str, told: "OpenTelemetryConfig | PrometheusConfig") -> "Runtime":
    from temporalio.runtime import Runtime, TelemetryConfig  # noqa: PLC0415

    tags = {"environment": environment}
    telemetry = TelemetryConfig(logging=core_logging(), metrics=told, global_tags=tags, attach_service_name=False)
    try:
        return Runtime(telemetry=telemetry)
    except ValueError as refused:
        # It reads some of the variables itself, and takes fewer values: no compression, for one.
        raise BadConfig(f"Temporal's metrics cannot be told: {refused}; see the variables OTEL_…") from refused


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tell_worker(version: str) -> None:
    meter = metrics.get_meter("icefleet")
    started = time.time()

    def resident(_: CallbackOptions) -> Iterable[Observation]:
        try:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            return []  # no Linux
        return [Observation(pages * _PAGE)]

    def allocated(_: CallbackOptions) -> Iterable[Observation]:
        # A worker that never needed Arrow need not load it for this.
        arrow = sys.modules.get("pyarrow")
        return [Observation(arrow.total_allocated_bytes())] if arrow else []

    meter.create_observable_gauge(
        "icefleet.worker.info", [lambda _: [Observation(1, {"version": version})]], description="1 while a worker runs"
    )
    meter.create_observable_gauge(
        "icefleet.worker.started_timestamp",
        [lambda _: [Observation(started)]],
        unit="s",
        description="When the worker started",
    )
    meter.create_observable_gauge(
        "icefleet.worker.resident_memory", [resident], unit="By", description="Resident memory of the worker"
    )
    meter.create_observable_gauge(
        "icefleet.worker.arrow_memory", [allocated], unit="By", description="What Arrow's allocator holds"
    )
