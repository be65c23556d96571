"""An environment that is wrong: the first request says which part, and what to mend."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import yaml

from support.fleet import Fleet
from support.refusals import SECONDS, asking, refusal

PORT_OF_NOBODY = 9


@asynccontextmanager
async def misconfigured(fleet: Fleet, change: Callable[[dict[str, Any]], Any]) -> AsyncIterator[None]:
    """A worker whose environments.yaml is wrong, beside a source with one day."""
    await fleet.make_days(days=1, rows=10)
    file = fleet.directory / "environments.yaml"
    config = yaml.safe_load(file.read_text())
    change(config["environments"][fleet.name])
    file.write_text(yaml.safe_dump(config))
    async with fleet.worker():
        yield


async def test_a_wrong_clickhouse_password_is_said_at_once(fleet, monkeypatch):
    monkeypatch.setenv("WRONG_PASSWORD", "guessed")
    async with misconfigured(fleet, lambda env: env["clickhouse"]["default"].update(password_env="WRONG_PASSWORD")):
        kind, message = await refusal(fleet, asking(fleet))
    where = f"ClickHouse {fleet.name}.default (127.0.0.1:{fleet.stack.ports['clickhouse']})"
    assert (kind, message.startswith(f"{where} refused: ")) == ("SourceRefused", True)
    assert "Authentication failed: password is incorrect, or there is no user with such name" in message
    assert "guessed" not in message


async def test_a_bucket_that_is_not_there_fails_the_request_before_anything_is_read(fleet):
    async with misconfigured(fleet, lambda env: env["storage"].update(bucket="nobody")):
        kind, message = await refusal(fleet, asking(fleet))
    assert (kind, message) == (
        "StoreRefused",
        (
            f"object store http://127.0.0.1:{fleet.stack.ports['s3']}: there is no bucket 'nobody'; "
            "create it, or mend storage.bucket in environments.yaml"
        ),
    )
    assert await fleet.queries("FORMAT Parquet") == []


async def test_refused_credentials_of_the_object_store_fail_the_request(fleet, monkeypatch):
    monkeypatch.setenv("WRONG_SECRET", "guessed")
    async with misconfigured(fleet, lambda env: env["storage"].update(secret_key_env="WRONG_SECRET")):
        kind, message = await refusal(fleet, asking(fleet))
    assert kind == "StoreRefused"
    assert message.startswith(f"object store http://127.0.0.1:{fleet.stack.ports['s3']} refuses bucket 'icefleet': ")
    assert message.endswith(
        "mend storage.access_key_env and storage.secret_key_env in environments.yaml, or grant the rights"
    )


async def test_a_refused_credential_of_the_catalog_fails_the_request(fleet, monkeypatch):
    monkeypatch.setenv("WRONG_CREDENTIAL", "nobody:guessed")
    async with misconfigured(fleet, lambda env: env["catalog"].update(credential_env="WRONG_CREDENTIAL")):
        kind, message = await refusal(fleet, asking(fleet))
    assert (kind, message) == (
        "CatalogRefused",
        (
            f"catalog http://127.0.0.1:{fleet.stack.ports['catalog']} (warehouse 'lake') refused: invalid_client: "
            "Invalid client credentials; check its credential, warehouse and rights in environments.yaml"
        ),
    )


async def test_a_catalog_that_stays_away_fails_the_request_when_planning_has_been_tried_five_times(fleet):
    nowhere = f"http://127.0.0.1:{PORT_OF_NOBODY}"

    def away(env: dict[str, Any]) -> None:
        env["catalog"].update(uri=nowhere, oauth2_server_uri=f"{nowhere}/v1/oauth/tokens")

    async with misconfigured(fleet, away):
        # It may come back: 1, 2, 4 and 8 seconds of patience, and not more.
        kind, message = await refusal(fleet, asking(fleet), seconds=15 + SECONDS)
    assert kind == "CatalogUnavailable"
    assert message.startswith(f"catalog {nowhere} (warehouse 'lake') did not answer as it should: ")
    assert "Connection refused" in message
