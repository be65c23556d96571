import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import nats
import psutil
import psycopg
import pytest

from deploy.local import environment, parts, ports, process

BIN = Path(sys.executable).parent
LOCAL = "from starter.local import app; app(prog_name='icefleet local')"


@dataclass
class Local:
    """`icefleet local …` for a directory of its own."""

    room: Path

    @property
    def directory(self) -> Path:
        return self.room / "cwd" / ".local"

    @property
    def env(self) -> dict[str, str]:
        return environment.read(self.directory)

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.room / "home"), "COLUMNS": "100", **variables}
        return subprocess.run(
            [sys.executable, "-c", LOCAL, *words],
            cwd=self.room / "cwd",
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def up(self, *words: str) -> dict:
        done = self.run("up", "--json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["parts"]

    def supervisor(self) -> psutil.Process:
        return psutil.Process(json.loads((self.directory / "run" / "state.json").read_text())["pid"])

    def processes(self) -> list[psutil.Process]:
        """Whatever runs from this directory, the supervisor included."""
        return [p for p in psutil.process_iter() if str(self.directory) in " ".join(_words(p))]


def _words(running: psutil.Process) -> list[str]:
    try:
        return running.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "home").mkdir()
    local = Local(tmp_path)
    yield local
    if (local.directory / "run" / "state.json").exists():
        local.run("down")


def eventually(check: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that a stranger listens on."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        yield stranger.getsockname()[1]


def s3_client(env: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{env['ICEFLEET_LOCAL_S3_PORT']}",
        aws_access_key_id=env["ICEFLEET_LOCAL_S3_ACCESS_KEY"],
        aws_secret_access_key=env["ICEFLEET_LOCAL_S3_SECRET_KEY"],
        region_name="us-east-1",
    )


def temporal(local: Local, *words: str) -> str:
    command = [BIN / "temporal", *words, "--address", f"127.0.0.1:{local.env['ICEFLEET_LOCAL_TEMPORAL_PORT']}"]
    env = {"HOME": str(local.room)}
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def clickhouse(env: dict[str, str], query: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", int(env["ICEFLEET_LOCAL_CLICKHOUSE_PORT"]), timeout=10)
    headers = {"X-ClickHouse-User": "icefleet", "X-ClickHouse-Key": env["ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD"]}
    connection.request("POST", "/", query, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return text


def postgres(env: dict[str, str]) -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=env["ICEFLEET_LOCAL_POSTGRES_PORT"],
        user="icefleet",
        password=env["ICEFLEET_LOCAL_POSTGRES_PASSWORD"],
        dbname="icefleet",
    )


async def test_a_second_up_keeps_data_credentials_and_ports(local):
    chosen: dict[str, int] = {}  # the usual ones may go to another stack while this one is down
    for name in parts.STANDARD_PORTS:
        chosen[name] = ports.free_port(chosen.values())
    local.up(*(word for name, port in chosen.items() for word in ("--port", f"{name}={port}")))
    before = local.env
    url = f"nats://127.0.0.1:{before['ICEFLEET_LOCAL_NATS_PORT']}"
    bus = await nats.connect(url)
    await bus.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
    await bus.jetstream().publish("kept.one", b"a message")
    await bus.close()
    s3_client(before).put_object(Bucket="icefleet", Key="a/b", Body=b"an object")
    temporal(local, "workflow", "start", "--type", "Nobody", "--task-queue", "nobody", "--workflow-id", "kept")
    clickhouse(before, "CREATE TABLE default.kept (n UInt64) ENGINE = MergeTree ORDER BY n")
    clickhouse(before, "INSERT INTO default.kept VALUES (42)")

    with postgres(before) as shop:
        shop.execute("CREATE TABLE kept AS SELECT 42 AS n")

    assert local.run("down").returncode == 0
    assert local.processes() == []
    local.up()

    assert local.env == before
    bus = await nats.connect(url)
    assert (await bus.jetstream().get_msg("KEPT", 1)).data == b"a message"
    await bus.close()
    assert s3_client(before).get_object(Bucket="icefleet", Key="a/b")["Body"].read() == b"an object"
    assert '"kept"' in temporal(local, "workflow", "list", "--output", "json")
    assert clickhouse(before, "SELECT n FROM default.kept") == "42\n"
    with postgres(before) as shop:
        assert shop.execute("SELECT n FROM kept").fetchall() == [(42,)]


def test_all_parts_are_ready_listen_on_loopback_only_and_leave_nothing_elsewhere(local):
    home, cwd = local.room / "home", local.room / "cwd"
    before = set(Path("/tmp").glob("seaweedfs-*.sock"))  # of stores that were killed, on ports that parts have now
    report = local.up()
    assert {name: part["state"] for name, part in report.items()} == dict.fromkeys(parts.ALL, "ready")

    pids = {p.pid for p in local.processes()}
    assert {part["pid"] for part in report.values()} < pids
    listening = [c.laddr for c in psutil.net_connections("inet") if c.pid in pids and c.status == "LISTEN"]
    assert {"127.0.0.1"} == {address.ip for address in listening}
    used = {address.port for address in listening}
    assert used >= {int(value) for name, value in local.env.items() if name.endswith("_PORT")}

    assert local.run("down").returncode == 0
    assert list(home.iterdir()) == []
    assert list(cwd.iterdir()) == [local.directory]
    left = set(Path("/tmp").glob("seaweedfs-*.sock")) - before
    assert [path for path in left if int(path.stem.rpartition("-")[2]) in used] == []


def test_the_env_file_is_for_its_owner_only(local):
    local.up("--only", "nats")
    assert stat.S_IMODE((local.directory / "env").stat().st_mode) == 0o600
    assert stat.S_IMODE((local.directory / "data").stat().st_mode) == 0o700
    assert set(local.env) >= {"ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD", "ICEFLEET_LOCAL_CATALOG_CREDENTIAL"}


def test_up_when_all_is_up_says_so_and_changes_nothing(local):
    first = local.up("--only", "nats")
    again = local.run("up", "--only", "nats")
    assert again.returncode == 0
    assert again.stdout.startswith("Everything is up already\n")
    assert json.loads(local.run("status", "--json").stdout)["parts"] == first


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_port_in_use_is_a_clear_error_and_leaves_nothing_running(local, taken, how):
    if how == "option":
        done = local.run("up", "--only", "s3,nats", "--port", f"nats={taken}")
    else:
        done = local.run("up", "--only", "s3,nats", ICEFLEET_LOCAL_NATS_PORT=str(taken))
    assert done.returncode == 1
    assert done.stderr == (
        f"error: nats: port {taken} is in use; stop what listens there, or choose another with "
        "`--port nats=PORT` or ICEFLEET_LOCAL_NATS_PORT\n"
    )
    assert local.processes() == []
    assert local.run("status").returncode == 3


def test_a_remembered_port_in_use_is_replaced_by_a_free_one(local):
    free = ports.free_port(())
    local.up("--only", "nats", "--port", f"nats={free}")
    local.run("down")
    local.up("--only", "nats")
    assert local.env["ICEFLEET_LOCAL_NATS_PORT"] == str(free)
    local.run("down")
    with socket.create_server(("127.0.0.1", free)):
        local.up("--only", "nats")
        assert local.env["ICEFLEET_LOCAL_NATS_PORT"] != str(free)


def test_a_running_part_is_not_moved_to_another_port(local):
    local.up("--only", "nats")
    port = local.env["ICEFLEET_LOCAL_NATS_PORT"]
    done = local.run("up", "--only", "nats", "--port", "nats=14222")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: nats: it already runs on port {port}; `icefleet local down` first to move it to 14222\n"
        "What runs goes on: `icefleet local status` shows it, `icefleet local down` ends it\n"
    )


def test_a_dead_part_is_reported_with_its_log_and_up_brings_it_back(local):
    before = local.up("--only", "nats,temporal")
    os.kill(before["nats"]["pid"], signal.SIGKILL)
    eventually(lambda: local.run("status").returncode == 1)

    told = local.run("status").stdout
    assert f"nats is dead: ended with SIGKILL\n  log: {local.directory / 'logs' / 'nats.log'}\n" in told

    after = local.up("--only", "nats,temporal")
    assert {name: part["state"] for name, part in after.items()} == {"nats": "ready", "temporal": "ready"}
    assert after["temporal"]["pid"] == before["temporal"]["pid"]
    assert after["nats"]["addresses"] == before["nats"]["addresses"]


def test_a_part_that_does_not_answer_is_reported(local):
    pid = local.up("--only", "nats")["nats"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    done = local.run("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["parts"]["nats"]["state"] == "not answering"


def test_down_ends_exactly_what_up_started(local):
    port = ports.free_port(())
    innocent = subprocess.Popen([BIN / "nats-server", "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        ours = [part["pid"] for part in local.up("--only", "nats,temporal").values()]
        supervisor = local.supervisor().pid
        done = local.run("down")
        assert (done.returncode, done.stdout) == (0, "The local stack is down; its data stay in .local\n")
        assert [pid for pid in (*ours, supervisor) if process.identity(pid)] == []
        assert innocent.poll() is None
        assert local.run("down").stdout == "Nothing runs in .local; `icefleet local up` starts it\n"
    finally:
        innocent.kill()
        innocent.wait()


def test_a_recycled_pid_is_never_signalled(local):
    """The state file names a process that has ended; its pid belongs to somebody else by now."""
    local.up("--only", "nats")
    file = local.directory / "run" / "state.json"
    state = json.loads(file.read_text())
    local.supervisor().kill()
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        eventually(lambda: local.processes() == [])
        state["pid"] = state["parts"]["nats"]["pid"] = innocent.pid
        file.write_text(json.dumps(state))
        assert local.run("status").returncode == 1
        assert local.run("down").stdout == "Nothing runs in .local; `icefleet local up` starts it\n"
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_nothing_outlives_a_killed_supervisor_and_up_starts_again(local):
    local.up("--only", "nats,temporal,s3,postgres")
    local.supervisor().kill()
    eventually(lambda: local.processes() == [])
    done = local.run("status")
    assert done.returncode == 1
    assert "s3 is dead: ended with its supervisor" in done.stdout
    assert local.up("--only", "postgres")["postgres"]["state"] == "ready"


def test_an_interrupted_up_leaves_nothing_running(local):
    command = subprocess.Popen(
        [sys.executable, "-c", LOCAL, "up"],
        env={"PATH": os.environ["PATH"], "ICEFLEET_LOCAL_DIR": str(local.directory)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    eventually(lambda: len(local.processes()) > 2)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(20) != 0
    assert local.processes() == []


def test_logs_prints_the_last_lines_of_a_part(local):
    local.up("--only", "nats")
    done = local.run("logs", "nats", "-n", "1")
    assert done.stdout.endswith("Server is ready\n")
    assert done.stdout.count("\n") == 1


def test_reset_asks_and_then_deletes_everything(local):
    local.up("--only", "nats")
    refused = local.run("reset")
    assert refused.returncode == 1
    assert "say so with `--yes`" in refused.stderr
    assert json.loads(local.run("status", "--json").stdout)["ready"]
    assert local.run("reset", "--yes").returncode == 0
    assert local.processes() == []
    assert not local.directory.exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--port", "natz=4222"], "no port is called `natz`; there are temporal, temporal-ui, nats, s3, catalog, "),
        (["--port", "nats=many"], "--port nats: `many` is no port; write a number from 1 to 65535"),
        (["--port", "nats=4222", "--port", "s3=4222"], "nats: port 4222 is also asked for by s3"),
        (["--only", "redis"], "no part is called `redis`; there are temporal, nats, s3, clickhouse, postgres, worker"),
    ],
)
def test_a_mistyped_part_or_port_is_named(local, words, error):
    done = local.run("up", *words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {error}")
    assert local.processes() == []
