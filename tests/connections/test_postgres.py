"""PostgreSQL by `verify-full`. The embedded server knows no TLS: a proxy ends it that speaks as libpq asks."""

from dataclasses import replace

import pytest

from activities.core.credentials import Tls
from activities.core.faults import PostgresRefused
from support.authority import server_context
from support.tlsproxy import TlsProxy


@pytest.fixture
def behind_tls(postgres, papers):
    with TlsProxy(postgres.settings.port, server_context(papers.server), postgres=True) as proxy:
        verified = replace(postgres.settings, port=proxy.port, sslmode="verify-full")
        yield proxy, lambda **tls: replace(verified, tls=Tls(**{name: str(value) for name, value in tls.items()}))


async def test_a_database_is_reached_when_a_named_authority_has_signed_its_certificate(behind_tls, papers):
    proxy, settings = behind_tls
    async with await settings(ca_file=papers.ours.file).connect() as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    proxy.context = server_context(papers.server, clients_of=papers.ours)
    ours = {"ca_file": papers.ours.file, "cert_file": papers.client.cert, "key_file": papers.client.key}
    await settings(**ours).check()


@pytest.mark.parametrize("case", ["a stranger's authority", "expired", "another name", "no certificate of ours"])
async def test_a_certificate_that_will_not_do_is_refused_and_named_with_the_address(behind_tls, papers, case):
    proxy, settings = behind_tls
    proxy.context = {
        "a stranger's authority": server_context(papers.server),
        "expired": server_context(papers.expired),
        "another name": server_context(papers.elsewhere),
        "no certificate of ours": server_context(papers.server, clients_of=papers.ours),
    }[case]
    trusted = papers.strangers if case == "a stranger's authority" else papers.ours
    with pytest.raises(PostgresRefused, match=rf"127\.0\.0\.1:{proxy.port}\).*TLS.*`ca_file`"):
        await settings(ca_file=trusted.file).check()


async def test_a_password_that_was_replaced_in_its_file_counts_at_the_next_connection(postgres, tmp_path):
    held = ["wrong"]
    settings = replace(postgres.settings, password=lambda: held[0])
    with pytest.raises(PostgresRefused, match="authentication failed"):
        await settings.check()
    held[0] = postgres.settings.password
    await settings.check()
