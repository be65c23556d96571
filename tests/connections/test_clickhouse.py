"""ClickHouse over TLS, as a certificate of a private authority demands it, and with a password that a file holds."""

import pytest

from activities.core.faults import SourceRefused
from activities.core.query import Query
from support.authority import SERVER_NAME, server_context
from support.tlsproxy import TlsProxy
from worker.clickhouse import open_clickhouse


@pytest.fixture
async def ask(fleet, papers, tmp_path):
    """Ask the fleet's source through TLS, with these keys of `tls` in the config; answers what it says."""
    with TlsProxy(fleet.stack.ports["clickhouse"], server_context(papers.server)) as proxy:
        fleet.point(clickhouse=proxy.port)

        async def asked(**tls):
            fleet.set_cluster(secure=True, tls={name: str(value) for name, value in tls.items()})
            own = open_clickhouse(fleet.settings(), f"{fleet.name}.default")
            try:
                return await own.rows(Query("SELECT 1 AS one"))
            finally:
                await own.close()

        asked.proxy = proxy
        yield asked


async def test_a_source_is_asked_by_tls_when_a_named_authority_has_signed_its_certificate(ask, papers):
    assert await ask(ca_file=papers.ours.file) == [{"one": 1}]
    ask.proxy.context = server_context(papers.elsewhere)
    by_name = {"ca_file": papers.ours.file, "server_name": "elsewhere.icefleet.test"}
    assert await ask(**by_name) == [{"one": 1}]


@pytest.mark.parametrize("case", ["a stranger's authority", "expired", "another name", "no certificate of ours"])
async def test_a_certificate_that_will_not_do_is_refused_and_named_with_the_address(ask, papers, case):
    ask.proxy.context = {
        "a stranger's authority": server_context(papers.server),
        "expired": server_context(papers.expired),
        "another name": server_context(papers.elsewhere),
        "no certificate of ours": server_context(papers.server, clients_of=papers.ours),
    }[case]
    trusted = papers.strangers if case == "a stranger's authority" else papers.ours
    with pytest.raises(SourceRefused, match=rf"127\.0\.0\.1:{ask.proxy.port}.*TLS.*`ca_file`"):
        await ask(ca_file=trusted.file)


async def test_our_certificate_is_shown_beside_the_password(ask, papers):
    ask.proxy.context = server_context(papers.server, clients_of=papers.ours)
    ours = {"ca_file": papers.ours.file, "cert_file": papers.client.cert, "key_file": papers.client.key}
    assert await ask(**ours, server_name=SERVER_NAME) == [{"one": 1}]


async def test_a_password_that_was_replaced_in_its_file_goes_with_the_next_query(fleet, tmp_path):
    right = fleet.settings().cluster(f"{fleet.name}.default").password.get_secret_value()
    file = tmp_path / "password"
    file.write_text(f"{right}\n", encoding="utf-8")
    fleet._cluster["password_env"] = None
    fleet.set_cluster(password_file=str(file))
    del fleet._cluster["password_env"]
    own = open_clickhouse(_without_variable(fleet), f"{fleet.name}.default")
    try:
        assert await own.rows(Query("SELECT 1 AS one")) == [{"one": 1}]
        file.write_text("another", encoding="utf-8")
        with pytest.raises(SourceRefused, match="refused"):
            await own.rows(Query("SELECT 1 AS one"))
        file.write_text(right, encoding="utf-8")
        assert await own.rows(Query("SELECT 1 AS one")) == [{"one": 1}]
    finally:
        await own.close()


def _without_variable(fleet):
    text = (fleet.directory / "environments.yaml").read_text(encoding="utf-8")
    (fleet.directory / "environments.yaml").write_text(
        text.replace("        password_env: null\n", ""), encoding="utf-8"
    )
    return fleet.settings()
