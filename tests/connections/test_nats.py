"""NATS over TLS, and every way to log in, against a server that demands them; what it may do is in test_grants.py."""

import base64
import json
import time

import nkeys
import pytest
import yaml
from nacl.signing import SigningKey

from activities.core.faults import BusRefused, BusUnavailable
from support.ownnats import nats_server
from worker.bus import open_bus

EVENT = "icefleet.here.snapshot.net.table"


def made_nkey(kind: int) -> nkeys.KeyPair:
    """A new key of a user, an account or an operator."""
    return nkeys.from_seed(nkeys.encode_seed(bytes(SigningKey.generate()), kind))


def made_token(subject: nkeys.KeyPair, issuer: nkeys.KeyPair, **claims) -> str:
    """A JWT as NATS has them: what `issuer` says of `subject`."""
    name = subject.public_key.decode()
    said = {"iss": issuer.public_key.decode(), "sub": name, "iat": int(time.time()), "jti": name, "name": "test"}
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**said, "nats": {"version": 2, **claims}}]
    text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_encoded(issuer.sign(text.encode()))}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture
def own(fleet, papers, tmp_path, monkeypatch):
    """A server with this config, by TLS, and a bus of the fleet with these keys of `nats` in its config."""
    block = f'tls {{ cert_file: "{papers.server.cert}", key_file: "{papers.server.key}" }}\n'

    def started(text: str, *, tls: str = block):
        return nats_server(tmp_path, f"{tls}{text}")

    def bus(port: int, *, scheme: str = "tls", **keys):
        monkeypatch.setenv("TEST_NATS_SECRET", "correct horse")
        path = fleet.directory / "environments.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        tls = {"tls": {"ca_file": str(papers.ours.file)}} if scheme == "tls" else {}
        config["environments"][fleet.name]["nats"] = {"url": f"{scheme}://127.0.0.1:{port}", **tls, **keys}
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return open_bus(fleet.settings().environment(fleet.name))

    started.bus = bus
    return started


async def published(bus) -> int:
    try:
        return await bus.publish(EVENT, b"{}", {}, message_id="one", after=0)
    finally:
        await bus.close()


async def test_events_go_by_tls_with_a_password_from_a_file(own, tmp_path):
    file = tmp_path / "password"
    file.write_text("wrong", encoding="utf-8")
    async with own('authorization { user: worker, password: "correct horse" }') as port:
        with pytest.raises(BusUnavailable, match=f"{port}.*Authorization Violation"):
            await published(own.bus(port, user="worker", password_file=str(file)))
        file.write_text("correct horse\n", encoding="utf-8")
        assert await published(own.bus(port, user="worker", password_file=str(file))) == 1


async def test_a_client_certificate_is_shown_where_it_is_demanded(own, papers):
    demanding = (
        f'tls {{ cert_file: "{papers.server.cert}", key_file: "{papers.server.key}", '
        f'ca_file: "{papers.ours.file}", verify: true }}\n'
    )
    ca, shown = str(papers.ours.file), papers.client
    async with own("", tls=demanding) as port:
        ours = {"ca_file": ca, "cert_file": str(shown.cert), "key_file": str(shown.key)}
        assert await published(own.bus(port, tls=ours)) == 1
        with pytest.raises((BusRefused, BusUnavailable), match=rf"tls://127\.0\.0\.1:{port}"):
            await published(own.bus(port))


async def test_an_nkey_logs_in(own, tmp_path):
    user = made_nkey(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "seed").write_bytes(bytes(user.seed))
    async with own(f"authorization {{ users: [ {{ nkey: {user.public_key.decode()} }} ] }}") as port:
        assert await published(own.bus(port, nkey_file=str(tmp_path / "seed"))) == 1


async def test_a_creds_file_logs_in_where_operators_issue_accounts(own, tmp_path):
    operator, user = made_nkey(nkeys.PREFIX_BYTE_OPERATOR), made_nkey(nkeys.PREFIX_BYTE_USER)
    account, system = made_nkey(nkeys.PREFIX_BYTE_ACCOUNT), made_nkey(nkeys.PREFIX_BYTE_ACCOUNT)
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    streams = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    said = made_token(operator, operator, type="operator")
    ours = made_token(account, operator, type="account", limits={**limits, **streams})
    theirs = made_token(system, operator, type="account", limits=limits)
    token = made_token(user, account, type="user", subs=-1, data=-1, payload=-1)
    ids = [one.public_key.decode() for one in (account, system)]
    config = (
        f"operator: {said}\nsystem_account: {ids[1]}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {ids[0]}: {ours}, {ids[1]}: {theirs} }}\n"
    )
    (tmp_path / "worker.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{bytes(user.seed).decode()}\n------END USER NKEY SEED------\n",
        encoding="utf-8",
    )
    async with own(config) as port:
        assert await published(own.bus(port, credentials_file=str(tmp_path / "worker.creds"))) == 1


@pytest.mark.parametrize("case", ["a stranger's authority", "expired", "another name"])
async def test_a_certificate_that_will_not_do_is_refused_and_named_with_the_address(own, papers, case):
    shown = {"expired": papers.expired, "another name": papers.elsewhere}.get(case, papers.server)
    trusted = papers.strangers if case == "a stranger's authority" else papers.ours
    async with own("", tls=f'tls {{ cert_file: "{shown.cert}", key_file: "{shown.key}" }}\n') as port:
        with pytest.raises(BusRefused, match=rf"NATS tls://127\.0\.0\.1:{port}.*TLS.*certificate.*`ca_file`"):
            await published(own.bus(port, tls={"ca_file": str(trusted.file)}))


async def test_nobody_logs_in_in_plain_text_where_the_address_demands_tls(own, tmp_path):
    async with own('authorization { user: worker, password: "correct horse" }', tls="") as port:
        with pytest.raises(BusRefused, match=f"127.0.0.1:{port} speaks no TLS"):
            await published(own.bus(port, user="worker", password_env="TEST_NATS_SECRET"))
        assert await published(own.bus(port, scheme="nats", user="worker", password_env="TEST_NATS_SECRET")) == 1
