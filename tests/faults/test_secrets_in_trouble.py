"""While workers die, parts refuse and answers are lost, no secret gets into anything that is said about it."""

import pytest

from support.collector import collecting
from support.faultproxy import Answer, AnswerInstead, CutBody, HttpFaults
from support.fleet import Fleet
from support.leaks import forms_of, leaks, left_behind
from support.planted import Piece
from support.workerpool import Pool

SIGNATURE = b"""<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code>
<Message>The signature does not match</Message><StringToSign>AWS4-HMAC-SHA256</StringToSign></Error>"""
UNKNOWN = b'{"error": {"message": "the commit may have landed", "type": "CommitStateUnknownException", "code": 503}}'
DENIED = b"Code: 516. DB::Exception: icefleet: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"


@pytest.fixture
async def said(stack, postgres, tmp_path, monkeypatch):
    """A short storm: everything that commands, workers, histories, events and spans said in it."""
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("TEST_NATS_PASSWORD", "open-sesame-nats-4471")
    monkeypatch.setenv("TEST_PURGE_TOKEN", "open-sesame-purge-5582")
    pieces: list[Piece] = []
    limits = {"heartbeat_seconds": 3, "partition_attempts": 3, "parallel_partitions": 2, "rows_per_query": 0}
    with collecting() as collector:
        for name, value in collector.variables().items():
            monkeypatch.setenv(name, value)
        async with (
            Fleet(stack, tmp_path / "config", export=limits) as fleet,
            HttpFaults(stack.ports["clickhouse"]) as clickhouse,
            HttpFaults(stack.ports["s3"]) as store,
            HttpFaults(stack.ports["catalog"]) as catalog,
        ):
            await fleet.make_days(days=3)
            fleet.point(clickhouse=clickhouse.port, s3=store.port, catalog=catalog.port)
            fleet.set_nats(user="icefleet", password_env="TEST_NATS_PASSWORD")
            fleet.set_storage(purge_url="http://127.0.0.1:1", purge_token_env="TEST_PURGE_TOKEN")
            fleet.set_cdc(shop=postgres.pipeline())
            struck = [
                clickhouse.on(CutBody(50), path=r"log_comment=[^&]*partition\+2024-03-20"),
                clickhouse.on(Answer(403, DENIED, "text/plain"), path=r"log_comment=[^&]*partition\+2024-03-19"),
                store.on(Answer(403, SIGNATURE, "application/xml"), method="PUT", path=r"2024/3/18"),
                catalog.on(AnswerInstead(503, UNKNOWN), method="POST", path=r"/tables/events$"),
                catalog.on(Answer(401, b"{}"), method="POST", path=r"/oauth/tokens"),
            ]
            pool = Pool(fleet, ["after-commit:1"], size=1, say=lambda _: None)
            await pool.start()
            try:
                for words in (
                    ("export", "events", "-n", fleet.network, "--wait"),
                    ("tables", "--source"),
                    ("export", "no_such_table", "-n", fleet.network, "--wait"),
                    ("cdc", "install", "--tables", "public.no_such_table"),
                ):
                    _, output, errors = await fleet.command(*words)
                    pieces.append(Piece("command", " ".join(words), (output + errors).encode()))
            finally:
                await pool.stop()
            assert [rule.times_struck > 0 for rule in struck] == [True] * len(struck)
            assert pool.kills == {"after-commit": 1}
            pieces += await left_behind(fleet)
            pieces += [Piece("span", span.name, repr(span).encode()) for span in collector.spans]
            yield forms_of(fleet, "PostgreSQL's password", "that of NATS", "the cache's token"), pieces


async def test_no_secret_is_in_any_output_history_event_or_span_of_a_storm(said):
    secrets, pieces = said
    kinds = {kind: sum(len(piece.data) for piece in pieces if piece.kind == kind) for kind in {p.kind for p in pieces}}
    assert kinds.keys() == {"command", "log", "history", "event", "span"}
    assert all(kinds.values())
    assert any(piece.kind == "history" and piece.where.startswith("cdc/") for piece in pieces)
    assert list(leaks(secrets, pieces)) == []
