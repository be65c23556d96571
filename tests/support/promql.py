"""What queries ask for: metrics, and the labels that they take for granted."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser
from promql_parser import AggModifierType

TARGET = frozenset({"instance", "job"})
"""Labels that Prometheus gives to whatever it scrapes."""
ALERTS = {"ALERTS": {"alertname", "alertstate", "severity", "environment"}}
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}


@dataclass(frozen=True)
class Asked:
    """One selector: a metric, and the labels that its matchers name."""

    metric: str
    labels: frozenset[str]


def parsed(query: str) -> Any:
    """The query, with Grafana's own variables filled in.

    Raises:
        ValueError: it is no PromQL.
    """
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    return promql_parser.parse(query)


def nodes(query: str) -> list[Any]:
    """Everything that a query is made of."""
    found: list[Any] = []
    promql_parser.walk(parsed(query), found.append)
    return found


def selectors(query: str) -> Iterator[Asked]:
    """The metrics that it asks for."""
    for node in nodes(query):
        if isinstance(node, promql_parser.VectorSelector):
            yield Asked(node.name, frozenset(matcher.name for matcher in node.matchers.matchers))


def grouping(query: str) -> set[str]:
    """Labels by which it groups and matches."""
    found: set[str] = set()
    for node in nodes(query):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found |= set(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None and node.modifier.matching:
            found |= set(node.modifier.matching.labels)
    return found


def answered(query: str, known: Mapping[str, set[str]]) -> set[str]:
    """The labels that its answer may have."""
    whole = parsed(query)
    while isinstance(whole, promql_parser.ParenExpr):
        whole = whole.expr
    by = whole.modifier if isinstance(whole, promql_parser.AggregateExpr) else None
    if by is not None and by.type == AggModifierType.By:
        return set(by.labels)
    return set().union(*(known.get(one.metric, set()) for one in selectors(query)))


def asked_for(definition: str) -> tuple[str, str]:
    """Selector and label of a variable of Grafana's, `label_values(selector, label)`."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", definition)
    assert match is not None, definition
    return match[1], match[2]
