"""What a module tells OpenTelemetry, read back as it would be exported."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

Points = dict[str, list[tuple[dict[str, Any], Any]]]
"""Name → attributes and value of each point; of a histogram how many values it holds."""


@contextmanager
def measured(module: ModuleType) -> Iterator[Callable[[], Points]]:
    """Let a module make its instruments anew; answers what reads all that was told through them."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with patch.object(metrics, "get_meter", provider.get_meter):
        importlib.reload(module)  # whoever has imported its functions tells through the new instruments, too
    try:
        yield lambda: _points(reader)
    finally:
        importlib.reload(module)
        provider.shutdown()


def _points(reader: InMemoryMetricReader) -> Points:
    data = reader.get_metrics_data()
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
    return {
        metric.name: [
            (dict(point.attributes or {}), getattr(point, "value", None) or getattr(point, "count", 0))
            for point in metric.data.data_points
        ]
        for scope in scopes
        for metric in scope.metrics
    }
