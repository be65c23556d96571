"""The config, read once and whole: the only reader of files and environment variables in the worker.

    config/environments.yaml   where data comes from and goes to, and which cluster feeds which environment
    config/tables.yaml         what moves, and how it is cut
    config/schedules.yaml      when; it may be missing
    config/mirrors.yaml        which changelogs have mirrors; it may be missing

Override files are laid over all of them. Whatever is wrong is reported at once, each with its file, line and key. A
secret that is not set is a problem only for whoever uses its environment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from activities.core.faults import BadConfig, BadRequest
from activities.core.names import near
from activities.core.tables import Clock, NetworkRange, PartitionRule, TableConfig
from worker.config_files import Problem, Variables
from worker.config_load import workers_of
from worker.config_loader import Loader
from worker.config_models import (
    Catalog,
    ClickHouseCluster,
    Environment,
    ExportLimits,
    ExportMapping,
    Nats,
    Storage,
    Temporal,
)
from worker.config_schedules import Schedules
from worker.config_tables import TableEntry

__all__ = [
    "Catalog",
    "ClickHouseCluster",
    "ConfigError",
    "Environment",
    "ExportLimits",
    "ExportMapping",
    "Nats",
    "Problem",
    "Settings",
    "Storage",
    "TableEntry",
    "Temporal",
    "load_settings",
]

_COARSE_CHUNKS = 100
"""Files per Iceberg partition of a chunked table that does not say."""


class ConfigError(Exception):
    """The config cannot be used. `problems` holds everything that is wrong with it; the text has one a line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line, problem.key))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class _Places(BaseSettings):
    """Where the config lies, by environment variables."""

    model_config = SettingsConfigDict(env_prefix="ICEFLEET_", env_ignore_empty=True)

    config_dir: Path = Path("config")
    config_override: Path | None = None
    local_dir: Path = Path(".local")


@dataclass(frozen=True)
class Settings:
    """Everything that config says, resolved."""

    environments: dict[str, Environment]
    tables: dict[str, TableEntry]
    export_mappings: tuple[ExportMapping, ...]
    missing: dict[str, list[Problem]] = field(default_factory=dict)
    """Per environment, the variables that it names and nobody has set."""
    overrides: dict[str, dict[str, TableEntry]] = field(default_factory=dict)
    """Per environment, the tables of which it says something different, as they are there."""
    schedules: Schedules = field(default_factory=Schedules)

    def names(self) -> list[str]:
        """The names of all environments, also of those that lack a variable to be read."""
        return list(self.environments | self.missing)

    def environment(self, name: str, *parts: str) -> Environment:
        """An environment with all its variables, or with those of the parts that are to be used, such as `temporal`.

        `mirrors` is what mirrors.yaml has for it.

        Raises:
            BadRequest: there is no such environment.
            BadConfig: variables that it, or those parts of it, name are not set.
        """
        places = (f"mirrors.{name}." if part == "mirrors" else f"environments.{name}.{part}." for part in parts)
        self._require(name, *places)
        return self.environments[name]

    def cluster(self, source: str) -> ClickHouseCluster:
        """The cluster `<environment>.<cluster>`, with its password.

        Raises:
            BadRequest: there is no such cluster.
            BadConfig: variables that it names are not set.
        """
        environment, _, name = source.partition(".")
        self._require(environment, f"environments.{environment}.clickhouse.{name}.")
        clusters = self.environments[environment].clickhouse
        if name not in clusters:
            known = [f"{environment}.{cluster}" for cluster in clusters]
            raise BadRequest(f"no ClickHouse cluster {source!r}{near(source, known)}")
        return clusters[name]

    def workers(self, source: str) -> int:
        """The most workers that can ask the cluster `<environment>.<cluster>` at once."""
        return workers_of(source, self.environments, self.export_mappings)

    def table(self, environment: str, table: str, network: str) -> TableConfig:
        """What config says of one table of an environment, which must have that network.

        Raises:
            BadRequest: no such environment, table or network, or a table that this environment does not get.
        """
        entry = self._entry(environment, table)
        networks = [known.name for known in entry.networks]
        source = self._source(environment, entry)
        if source and network not in networks:
            raise BadRequest(f"table {table!r} has no network {network!r}{near(network, networks)}")
        if source:
            return _resolve(entry, source)
        feeding = ", ".join(f"`{name}`" for name in self.sources(environment)) or "no cluster"
        comes = f" and the table names `source` {', '.join(entry.source)}" if entry.source else ""
        raise BadRequest(
            f"environment {environment!r} does not get table {table!r}: it is fed by {feeding}{comes};"
            " add the cluster to `export_mappings`, or choose another environment"
        )

    def networks(self, environment: str, table: str) -> list[str]:
        """The networks that a table has in an environment.

        Raises:
            BadRequest: no such environment, no such table, or a disabled one.
        """
        return [network.name for network in self._entry(environment, table).networks]

    def _entry(self, environment: str, table: str) -> TableEntry:
        self._known(environment)
        if table not in self.tables:
            raise BadRequest(f"no table {table!r} in config{near(table, self.tables)}")
        entry = self.overrides.get(environment, {}).get(table, self.tables[table])
        if not entry.enabled:
            raise BadRequest(
                f"table {table!r} is disabled in environment {environment!r} (`enabled: false`); enable it in "
                f"tables.yaml, or for this environment under environments.{environment}.tables.{table}"
            )
        return entry

    def exports(self, environment: str) -> list[tuple[TableConfig, str]]:
        """Every table and network that an environment gets; disabled tables are left out.

        Raises:
            BadRequest: there is no such environment.
        """
        self._known(environment)
        entries = (self.tables | self.overrides.get(environment, {})).values()
        found = ((entry, self._source(environment, entry)) for entry in entries if entry.enabled)
        return [
            (_resolve(entry, source), network.name) for entry, source in found if source for network in entry.networks
        ]

    def unset(self, environment: str) -> list[Problem]:
        """What keeps an environment, or a cluster that feeds it, from being used: variables that are not set.

        Raises:
            BadRequest: there is no such environment.
        """
        self._known(environment)
        problems = list(self.missing.get(environment, []))
        for source in self.sources(environment):
            owner, _, cluster = source.partition(".")
            prefix = f"environments.{owner}.clickhouse.{cluster}."
            problems += [problem for problem in self.missing.get(owner, []) if problem.key.startswith(prefix)]
        return list(dict.fromkeys(problems))

    def sources(self, environment: str) -> list[str]:
        """The clusters that feed an environment, each as `<environment>.<cluster>`."""
        return [mapping.source for mapping in self.export_mappings if mapping.destination == environment]

    def sources_of(self, environment: str, table: str) -> list[str]:
        """The cluster that a table of an environment comes from; nothing of a table that it does not get."""
        exports = self.exports(environment) if environment in self.names() else []
        return list({config.source: "" for config, _ in exports if config.name == table})

    def _source(self, environment: str, entry: TableEntry) -> str:
        wanted = (source for source in self.sources(environment) if not entry.source or source in entry.source)
        return next(wanted, "")

    def _known(self, environment: str) -> None:
        if environment not in self.names():
            raise BadRequest(f"no environment {environment!r}{near(environment, self.names())}")

    def _require(self, environment: str, *prefixes: str) -> None:
        self._known(environment)
        problems = self.missing.get(environment, [])
        if prefixes and environment in self.environments:
            problems = [problem for problem in problems if problem.key.startswith(prefixes)]
        if problems:
            raise BadConfig("\n".join(str(problem) for problem in problems))


def _resolve(entry: TableEntry, source: str) -> TableConfig:
    integer, clock = entry.partition.type == "integer", entry.partition.clock
    networks = []
    for network in entry.networks:
        first = network.start_index if integer else network.start_date
        last = network.end_index if integer else network.end_date
        networks.append(NetworkRange(network.name, str(first), "" if last is None else str(last)))
    return TableConfig(
        name=entry.name,
        database=entry.database,
        source=source,
        partition=PartitionRule(
            kind=entry.partition.type,
            column=entry.partition.column,
            chunk_size=entry.partition.chunk_size or 0,
            coarse_chunks=(entry.partition.coarse_chunks or _COARSE_CHUNKS) if integer else 0,
            clock=Clock(clock.table, clock.column) if clock is not None else None,
        ),
        networks=tuple(networks),
        group=entry.group,
        lag=entry.lag_amount,
        network_column=entry.network_column,
        redacted_columns=entry.redacted_columns,
        allowed_columns=entry.allowed_columns,
        profile=entry.profile,
        types=dict(entry.types),
        sensitive_patterns=entry.sensitive_patterns,
        sharding_follows=dict(entry.sharding_follows),
    )


def load_settings(directory: Path | None = None, *, override: Sequence[Path] = ()) -> Settings:
    """Read the config.

    Args:
        directory: holds `environments.yaml`, `tables.yaml` and perhaps `schedules.yaml` and `mirrors.yaml`; else
            `$ICEFLEET_CONFIG_DIR`, else `./config`.
        override: files, or directories of `*.yaml`, laid over in this order, and over `$ICEFLEET_CONFIG_OVERRIDE`.

    Raises:
        ConfigError: with every problem of every file.
    """
    places = _Places()
    overrides = [*([places.config_override] if places.config_override else []), *override]
    loader = Loader(Variables.read(places.local_dir / "env"))
    loader.load(directory or places.config_dir, overrides)
    if loader.problems:
        raise ConfigError(loader.problems)
    return Settings(
        loader.environments, loader.tables, loader.mappings, loader.missing, loader.overrides, loader.schedules
    )
