"""Temporal behind TLS that demands a client's certificate, and with a key."""

import pytest
import yaml

from support.authority import server_context
from support.fleet import eventually
from support.tlsproxy import TlsProxy
from worker import temporal
from worker.hidden_failures import HIDING
from worker.temporal import connect_temporal


@pytest.fixture
def reach(fleet, papers, monkeypatch):
    """Connect to the fleet's Temporal through mutual TLS, with these keys of `temporal` in the config."""
    context = server_context(papers.server, clients_of=papers.ours, protocols=("h2",))
    with TlsProxy(fleet.stack.ports["temporal"], context) as proxy:

        async def reached(**keys):
            path = fleet.directory / "environments.yaml"
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            own = config["environments"][fleet.name]["temporal"]
            own |= {"address": f"127.0.0.1:{proxy.port}", **keys}
            path.write_text(yaml.safe_dump(config), encoding="utf-8")
            return await connect_temporal(fleet.settings().environment(fleet.name, "temporal"))

        reached.proxy = proxy
        yield reached


def files(authority, certificate=None, **more):
    shown = {"cert_file": str(certificate.cert), "key_file": str(certificate.key)} if certificate else {}
    return {"ca_file": str(authority.file), **shown, **more}


async def test_temporal_is_reached_when_both_sides_show_certificates(reach, papers):
    client = await reach(tls=files(papers.ours, papers.client))
    assert await client.service_client.check_health()
    reach.proxy.context = server_context(papers.elsewhere, clients_of=papers.ours, protocols=("h2",))
    client = await reach(tls=files(papers.ours, papers.client, server_name="elsewhere.icefleet.test"))
    assert await client.service_client.check_health()


@pytest.mark.parametrize(
    "case", ["a stranger's authority", "expired", "another name", "no certificate of ours", "a stranger's certificate"]
)
async def test_a_certificate_that_will_not_do_is_named_with_the_address(reach, papers, case):
    shown = {"expired": papers.expired, "another name": papers.elsewhere}.get(case, papers.server)
    reach.proxy.context = server_context(shown, clients_of=papers.ours, protocols=("h2",))
    trusted = papers.strangers if case == "a stranger's authority" else papers.ours
    own = {"no certificate of ours": None, "a stranger's certificate": papers.foreign}.get(case, papers.client)
    with pytest.raises(RuntimeError, match=rf"(?s)127\.0\.0\.1:{reach.proxy.port} \(namespace default\).*`ca_file`"):
        await reach(tls=files(trusted, own))


async def test_a_key_that_was_replaced_in_its_file_is_used_by_a_client_that_is_open(
    reach, papers, tmp_path, monkeypatch
):
    monkeypatch.setattr(temporal, "KEY_SECONDS", 0.05)
    key = tmp_path / "key"
    key.write_text("first\n", encoding="utf-8")
    client = await reach(tls=files(papers.ours, papers.client), api_key_file=str(key))
    assert client.api_key == "first"
    key.write_text("second\n", encoding="utf-8")
    await eventually(lambda: client.api_key == "second")


async def test_what_a_client_writes_of_failures_holds_no_secret(fleet):
    """How it is kept out is told by tests/worker/test_hidden_failures.py."""
    assert fleet.temporal.data_converter is HIDING
