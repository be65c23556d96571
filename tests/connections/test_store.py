"""The object store and the catalog: by TLS, with keys of every origin, and whether a store can hold a lake at all."""

import asyncio
import json

import pytest
import yaml

from activities.clients import storekeys
from activities.core.faults import CatalogRefused, StoreRefused
from deploy.local.environment import S3_ACCESS_KEY, S3_SECRET_KEY
from support.authority import server_context
from support.faultproxy import Answer, AnswerInstead, HttpFaults
from support.s3dialect import Unconditional
from support.tlsproxy import TlsProxy
from worker.destination_check import FOLDER, check_destination
from worker.lake import open_lake
from worker.parts import open_store


@pytest.fixture
def keys(fleet):
    """Access key and secret key of the stack's store."""
    return fleet.stack.environment[S3_ACCESS_KEY], fleet.stack.environment[S3_SECRET_KEY]


@pytest.fixture
def configure(fleet):
    """Change parts of the fleet's environment (None: leave a key out); answers the environment as it is then read."""

    def configured(**parts):
        path = fleet.directory / "environments.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        for part, changes in parts.items():
            own = config["environments"][fleet.name][part] | changes
            config["environments"][fleet.name][part] = {key: value for key, value in own.items() if value is not None}
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return fleet.settings().environment(fleet.name)

    return configured


@pytest.fixture
def held(tmp_path, keys):
    """Files with the keys, as a mounted Secret has them; the config's keys that name them."""
    for name, key in zip(("access", "secret"), keys, strict=True):
        (tmp_path / name).write_text(f"{key}\n", encoding="utf-8")
    named = {"access_key_file": str(tmp_path / "access"), "secret_key_file": str(tmp_path / "secret")}
    return {"access_key_env": None, "secret_key_env": None, **named}


async def test_an_export_goes_whole_by_tls_with_secrets_from_files(fleet, papers, configure, held, tmp_path):
    credential = tmp_path / "credential"
    credential.write_text(fleet.stack.environment["ICEFLEET_LOCAL_CATALOG_CREDENTIAL"], encoding="utf-8")
    await fleet.make_days(days=1)
    with (
        TlsProxy(fleet.stack.ports["s3"], server_context(papers.server)) as s3,
        TlsProxy(fleet.stack.ports["catalog"], server_context(papers.server)) as catalog,
    ):
        at, trusted = f"https://127.0.0.1:{catalog.port}", {"ca_file": str(papers.ours.file)}
        login = {
            "credential_env": None,
            "credential_file": str(credential),
            "oauth2_server_uri": f"{at}/v1/oauth/tokens",
        }
        environment = configure(
            storage={"endpoint": f"https://127.0.0.1:{s3.port}", "tls": trusted, "public_url": None, **held},
            catalog={"uri": at, "tls": trusted, "oauth2_server_uri": f"{at}/v1/oauth/tokens", **login},
        )
        async with fleet.worker():
            report = await fleet.request()
        assert (report.exported, report.failures) == (1, [])
        table = await asyncio.to_thread(lambda: open_lake(environment).load(f"{fleet.network}.events"))
        assert (await asyncio.to_thread(lambda: table.scan().to_arrow().num_rows)) == 100


@pytest.mark.parametrize("case", ["a stranger's authority", "expired", "another name"])
async def test_a_certificate_that_will_not_do_is_refused_and_named_with_the_address(fleet, papers, configure, case):
    shown = {"expired": papers.expired, "another name": papers.elsewhere}.get(case, papers.server)
    trusted = {"ca_file": str((papers.strangers if case == "a stranger's authority" else papers.ours).file)}
    with (
        TlsProxy(fleet.stack.ports["s3"], server_context(shown)) as s3,
        TlsProxy(fleet.stack.ports["catalog"], server_context(shown)) as catalog,
    ):
        environment = configure(
            storage={"endpoint": f"https://127.0.0.1:{s3.port}", "tls": trusted},
            catalog={"uri": f"https://127.0.0.1:{catalog.port}", "tls": trusted, "oauth2_server_uri": None},
        )
        async with open_store(environment) as store:
            with pytest.raises(StoreRefused, match=rf"https://127\.0\.0\.1:{s3.port}.*TLS.*`ca_file`"):
                await store.check()
        with pytest.raises(StoreRefused, match=r"object s3://icefleet/anything.*TLS.*`ca_file`"):
            await asyncio.to_thread(open_lake(environment).files().part, "s3://icefleet/anything", 0, 4)
        with pytest.raises(CatalogRefused, match=rf"https://127\.0\.0\.1:{catalog.port}.*TLS.*`ca_file`"):
            await asyncio.to_thread(open_lake(environment).check)


async def test_keys_that_were_replaced_in_their_files_sign_the_next_request(configure, held, keys, tmp_path):
    environment = configure(storage=held)
    files, path = open_lake(environment).files(), f"s3://icefleet/{FOLDER}-{tmp_path.name}"
    async with open_store(environment) as store:
        assert await store.create(store.key(path), b"here", "")
        (tmp_path / "secret").write_text("another", encoding="utf-8")
        with pytest.raises(StoreRefused):
            await store.head(store.key(path))
        with pytest.raises(StoreRefused):
            await asyncio.to_thread(files.part, path, 0, 4)
        (tmp_path / "secret").write_text(keys[1], encoding="utf-8")
        assert (await store.head(store.key(path))).size == 4
        assert await asyncio.to_thread(files.part, path, 0, 4) == b"here"
        await store.delete(store.key(path))


async def test_without_keys_in_config_those_of_the_role_count_for_objects_and_for_files(
    configure, keys, tmp_path, monkeypatch
):
    said = json.dumps({"Version": 1, "AccessKeyId": keys[0], "SecretAccessKey": keys[1]})
    (tmp_path / "said.json").write_text(said, encoding="utf-8")
    (tmp_path / "aws").write_text(f"[default]\ncredential_process = cat {tmp_path}/said.json\n", encoding="utf-8")
    environment = configure(storage={"access_key_env": None, "secret_key_env": None})
    path = f"s3://icefleet/{FOLDER}-{tmp_path.name}"
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for config, works in (("none", False), ("aws", True)):
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / config))
        storekeys.store_session.cache_clear()
        storekeys._role.cache_clear()
        files = open_lake(environment).files()
        async with open_store(environment) as store:
            if not works:
                with pytest.raises(StoreRefused, match="nor has this process a role"):
                    await store.check()
                with pytest.raises(StoreRefused, match="nor has this process a role"):
                    await asyncio.to_thread(files.part, path, 0, 4)
                continue
            assert await store.create(store.key(path), b"here", "")
            assert await asyncio.to_thread(files.part, path, 0, 4) == b"here"
            await store.delete(store.key(path))
    storekeys.store_session.cache_clear()
    storekeys._role.cache_clear()


async def test_a_role_is_taken_on_by_web_identity_for_objects_and_for_files(fleet, configure, tmp_path, monkeypatch):
    said = (
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        "<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>of the role"
        "</SessionToken><Expiration>2124-01-01T00:00:00Z</Expiration></Credentials>"
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
    (tmp_path / "token").write_text("of the service account", encoding="utf-8")
    async with HttpFaults(1) as issuer, HttpFaults(fleet.stack.ports["s3"]) as s3:
        asked = issuer.on(Answer(200, said.encode(), "text/xml"), method="POST", times=None)
        for name, value in {
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/icefleet",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{issuer.port}",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        }.items():
            monkeypatch.setenv(name, value)
        storekeys.store_session.cache_clear()
        storekeys._role.cache_clear()
        here = {"endpoint": f"http://127.0.0.1:{s3.port}", "access_key_env": None, "secret_key_env": None}
        environment = configure(storage=here)
        async with open_store(environment) as store:
            with pytest.raises(StoreRefused):  # of this role the store knows nothing
                await store.head("anything")
        with pytest.raises(StoreRefused):
            await asyncio.to_thread(open_lake(environment).files().part, "s3://icefleet/anything", 0, 4)
        sent = [{name.lower(): value for name, value in seen.headers.items()} for seen in s3.seen]
        assert len(sent) >= 2
        assert all("Credential=ASIAROLE/" in headers["authorization"] for headers in sent)
        assert {headers["x-amz-security-token"] for headers in sent} == {"of the role"}
        assert asked.times_struck == 1
    storekeys.store_session.cache_clear()
    storekeys._role.cache_clear()


async def test_a_session_token_goes_with_every_request(fleet, configure, monkeypatch):
    monkeypatch.setenv("TEST_SESSION_TOKEN", "borrowed")
    async with HttpFaults(fleet.stack.ports["s3"]) as s3:
        endpoint = f"http://127.0.0.1:{s3.port}"
        environment = configure(storage={"endpoint": endpoint, "session_token_env": "TEST_SESSION_TOKEN"})
        async with open_store(environment) as store:
            with pytest.raises(StoreRefused):  # of this token the store knows nothing
                await store.head("anything")
        with pytest.raises(StoreRefused):
            await asyncio.to_thread(open_lake(environment).files().part, "s3://icefleet/anything", 0, 4)
        sent = [{name.lower(): value for name, value in seen.headers.items()} for seen in s3.seen]
        assert {headers.get("x-amz-security-token") for headers in sent} == {"borrowed"}


async def test_a_bearer_token_that_was_replaced_in_its_file_goes_with_the_next_request(fleet, configure, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n", encoding="utf-8")
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        everything = catalog.on(AnswerInstead(200, b'{"defaults": {}, "overrides": {}, "namespaces": []}'), times=None)
        lake = open_lake(
            configure(
                catalog={
                    "uri": f"http://127.0.0.1:{catalog.port}",
                    "credential_env": None,
                    "oauth2_server_uri": None,
                    "token_file": str(token),
                }
            )
        )
        await asyncio.to_thread(lake.check)
        token.write_text("second", encoding="utf-8")
        await asyncio.to_thread(lake.check)
        shown = [seen.headers["Authorization"] for seen in catalog.seen]
        assert (set(shown[:-1]), shown[-1]) == ({"Bearer first"}, "Bearer second")
        assert everything.times_struck == len(shown)


async def test_a_store_that_can_hold_a_lake_is_found_to_and_nothing_is_left_in_it(fleet, configure):
    environment = configure(storage={"prefix": f"some/{fleet.name}"})
    report = await check_destination(environment)
    assert (report.lacks, report.unreachable) == ([], "")
    async with open_store(environment) as store:
        assert [page async for page in store.objects(f"some/{fleet.name}/") if page] == []
        assert [page async for page in store.uploads(f"some/{fleet.name}/") if page] == []


async def test_a_store_that_looks_at_no_condition_is_found_out(fleet, configure, keys):
    async with Unconditional(fleet.stack.ports["s3"], *keys) as store:
        report = await check_destination(configure(storage={"endpoint": f"http://127.0.0.1:{store.port}"}))
    assert [lacking.partition(":")[0] for lacking in report.lacks] == [
        "creating an object only where there is none (If-None-Match on PUT)",
        "completing an upload only where there is no object (If-None-Match)",
        "replacing an object on condition (If-Match), for `public_url`",
    ]
    assert "has been replaced; two workers could replace each other's files" in report.lacks[0]


async def test_the_command_says_what_a_store_lacks_and_exits_with_1(fleet):
    async with HttpFaults(fleet.stack.ports["s3"]) as s3:
        fleet.point(s3=s3.port)
        s3.on(AnswerInstead(501), method="POST", path=r"uploadId=", times=None)
        code, said, errors = await fleet.command("config", "check", "-e", fleet.name, "--destination")
        assert (code, said) == (1, "")
        assert f"http://127.0.0.1:{s3.port}, bucket icefleet lacks an upload of equal parts: object store" in errors
        s3.mend()
        code, said, errors = await fleet.command("config", "check", "-e", fleet.name, "--destination")
        assert (code, said) == (0, f"http://127.0.0.1:{s3.port}, bucket icefleet: it can hold a lake\n")
