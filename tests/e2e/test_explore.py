import asyncio, time, uuid, yaml, pytest
from temporalio.client import WorkflowFailureError
from activities.contracts.export import *

def unwrap(e):
    out=[]
    while e is not None:
        out.append(f"{type(e).__name__}[{getattr(e,'type',None)}]: {getattr(e,'message',e)}")
        e = e.__cause__
    return "\n      ".join(out)

async def show(fleet, name, *args, workflow=REQUEST_WORKFLOW, id=None, seconds=20):
    started=time.monotonic()
    h = await fleet.temporal.start_workflow(workflow, args=list(args), id=id or f"r-{uuid.uuid4()}", task_queue=fleet.queue)
    try:
        r = await asyncio.wait_for(h.result(), seconds)
        text = f"OK {r}"
    except WorkflowFailureError as e:
        text = unwrap(e.cause)
    except TimeoutError:
        text = "TIMEOUT"
        d = await h.fetch_history()
        text += str([ (x.workflow_task_failed_event_attributes.failure.message) for x in d.events if x.HasField("workflow_task_failed_event_attributes")])
        await h.terminate()
    print(f"\n### {name} {time.monotonic()-started:.2f}s\n      {text}")

async def test_x(fleet):
    await fleet.make_days(days=3, rows=10)
    await fleet.make_hours("hours", hours=2)
    db=fleet.database
    await fleet.run_sql(f"CREATE TABLE {db}.chunks (updated DateTime, number UInt64, network String) ENGINE=ReplacingMergeTree(updated) ORDER BY (network, number)")
    fleet.add_table("chunked","chunks","number")
    await fleet.run_sql(f"CREATE TABLE {db}.nocolumn AS {db}.events")
    fleet.add_table("daily","nocolumn","slot_time")
    await fleet.run_sql(f"CREATE TABLE {db}.noredact AS {db}.events")
    fleet.add_table("daily","noredact","at", redacted_columns=["meta_client_ip"])
    await fleet.run_sql(f"CREATE TABLE {db}.states (at DateTime, network String, total AggregateFunction(sum, UInt64)) ENGINE=MergeTree ORDER BY at")
    fleet.add_table("daily","states","at")
    await fleet.run_sql(f"SET allow_experimental_json_type=1")if 0 else None
    await fleet.run_sql(f"CREATE TABLE {db}.documents (at DateTime, network String, body JSON) ENGINE=MergeTree ORDER BY at")
    fleet.add_table("daily","documents","at")
    await fleet.run_sql(f"CREATE TABLE {db}.private (at DateTime, network String, meta_client_ip IPv6) ENGINE=MergeTree ORDER BY at")
    fleet.add_table("daily","private","at")
    fleet.add_table("daily","absent","at")
    base={"environment":fleet.name,"network":fleet.network,"table":"events"}
    async with fleet.worker():
        await show(fleet,"none")
        await show(fleet,"null",None)
        await show(fleet,"string","events")
        await show(fleet,"list",["events"])
        await show(fleet,"two", base, base, seconds=5)
        await show(fleet,"two loop", base, base, seconds=5, workflow=LOOP_WORKFLOW, id=f"export/{fleet.name}/{fleet.network}.foo")
        await show(fleet,"missing", {"table":"events"})
        await show(fleet,"mistyped", {**base,"table":7,"force":"yes"})
        await show(fleet,"unknown", {**base,"dryrun":True})
        await show(fleet,"table", {**base,"table":"event"})
        await show(fleet,"network", {**base,"network":"mainet"})
        await show(fleet,"env", {**base,"environment":"staging"})
        await show(fleet,"end<start", {**base,"from":"2024-03-20","to":"2024-03-19"})
        await show(fleet,"malformed", {**base,"from":"20.03.2024"})
        await show(fleet,"hour for daily", {**base,"from":"2024-03-20T05"})
        await show(fleet,"date for int", {**base,"table":"chunks","from":"2024-03-20"})
        await show(fleet,"neg int", {**base,"table":"chunks","from":-1})
        await show(fleet,"hours 24", {**base,"table":"hours","from":"2024-03-20T24"})
        await show(fleet,"to only before start", {**base,"to":"2023-03-20"})
        await show(fleet,"from only after end", {**base,"from":"2025-03-20"})
        for t in ("nocolumn","noredact","states","documents","private","absent"):
            await show(fleet,t, {**base,"table":t})
        await show(fleet,"wrong door", base, workflow=LOOP_WORKFLOW)
        lid=f"export/{fleet.name}/{fleet.network}.events"
        await show(fleet,"loop bad", {**base,"activ":1}, workflow=LOOP_WORKFLOW, id=lid)
        await show(fleet,"loop bad2", {**base,"active":[1]}, workflow=LOOP_WORKFLOW, id=lid, seconds=4)
        await show(fleet,"loop bad3", {**base,"active":[{"a":1}]}, workflow=LOOP_WORKFLOW, id=lid, seconds=4)
        await show(fleet,"loop none", workflow=LOOP_WORKFLOW, id=lid, seconds=4)

async def env_case(fleet, name, edit):
    await fleet.make_days(days=1, rows=10)
    p = fleet.directory/"environments.yaml"
    doc = yaml.safe_load(p.read_text()); edit(doc["environments"][fleet.name]); p.write_text(yaml.safe_dump(doc))
    base={"environment":fleet.name,"network":fleet.network,"table":"events"}
    async with fleet.worker():
        await show(fleet,name, base, seconds=40)

async def test_pw(fleet, monkeypatch):
    monkeypatch.setenv("WRONG_PW","nope")
    await env_case(fleet,"password",lambda e: e["clickhouse"]["default"].update(password_env="WRONG_PW"))
async def test_bucket(fleet, monkeypatch):
    await env_case(fleet,"bucket",lambda e: e["storage"].update(bucket="nobody"))
async def test_catalog(fleet, monkeypatch):
    await env_case(fleet,"catalog",lambda e: e["catalog"].update(uri="http://127.0.0.1:9",oauth2_server_uri="http://127.0.0.1:9/v1/oauth/tokens"))
async def test_catalogcred(fleet, monkeypatch):
    monkeypatch.setenv("WRONG_PW","nope:nope")
    await env_case(fleet,"catalog credential",lambda e: e["catalog"].update(credential_env="WRONG_PW"))
async def test_warehouse(fleet, monkeypatch):
    await env_case(fleet,"warehouse",lambda e: e["catalog"].update(warehouse="nolake"))
async def test_s3key(fleet, monkeypatch):
    monkeypatch.setenv("WRONG_PW","nope")
    await env_case(fleet,"s3 secret",lambda e: e["storage"].update(secret_key_env="WRONG_PW"))
async def test_chdown(fleet, monkeypatch):
    await env_case(fleet,"ch down",lambda e: e["clickhouse"]["default"].update(port=9))
