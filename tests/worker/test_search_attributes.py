"""Search attributes where we may not register them: a server that speaks Temporal's protocol, and refuses to."""

import grpc
import pytest
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    AddSearchAttributesResponse,
    ListSearchAttributesRequest,
    ListSearchAttributesResponse,
)
from temporalio.api.operatorservice.v1.service_pb2_grpc import (
    OperatorServiceServicer,
    add_OperatorServiceServicer_to_server,
)
from temporalio.client import Client
from temporalio.service import RPCError

from activities.core.faults import BadConfig
from support.documents import ROOT
from worker.search_attributes import ATTRIBUTES, register_attributes

ENVIRONMENT, TABLE, NETWORK = ATTRIBUTES


class Refusing(OperatorServiceServicer):
    """Knows one of our attributes, and takes no others."""

    status = grpc.StatusCode.PERMISSION_DENIED
    known = (ENVIRONMENT,)

    async def ListSearchAttributes(  # noqa: N802 - the name of the call
        self, _: ListSearchAttributesRequest, __: grpc.aio.ServicerContext
    ) -> ListSearchAttributesResponse:
        return ListSearchAttributesResponse(custom_attributes=dict.fromkeys(self.known, 2))

    async def AddSearchAttributes(  # noqa: N802 - the name of the call
        self, _: AddSearchAttributesRequest, context: grpc.aio.ServicerContext
    ) -> AddSearchAttributesResponse:
        await context.abort(self.status, "Request unauthorized.")


@pytest.fixture
async def refusing():
    service, server = Refusing(), grpc.aio.server()
    add_OperatorServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield service
    await server.stop(None)


@pytest.mark.parametrize("status", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED])
async def test_where_we_may_not_register_them_whoever_may_is_told_what_to_type(refusing, status):
    refusing.status = status
    client = await Client.connect(refusing.address, namespace="icefleet.a1b2c")
    with pytest.raises(BadConfig, match="we may not register them") as told:
        await register_attributes(client)
    assert f"lacks the search attributes {TABLE}, {NETWORK}, each of type Keyword" in str(told.value)
    assert (
        "tcld namespace search-attributes add --namespace icefleet.a1b2c "
        f"--search-attribute {TABLE}=Keyword --search-attribute {NETWORK}=Keyword\n"
    ) in str(told.value)
    assert (
        "temporal operator search-attribute create --namespace icefleet.a1b2c "
        f"--name {TABLE} --type Keyword --name {NETWORK} --type Keyword"
    ) in str(told.value)


async def test_where_they_have_been_registered_by_somebody_else_no_right_to_do_so_is_needed(refusing):
    refusing.known = ATTRIBUTES
    assert await register_attributes(await Client.connect(refusing.address)) == []


async def test_what_a_server_refuses_for_other_reasons_is_not_taken_for_a_lack_of_rights(refusing):
    refusing.status = grpc.StatusCode.INVALID_ARGUMENT
    client = await Client.connect(refusing.address)
    with pytest.raises(RPCError, match="unauthorized"):
        await register_attributes(client)


@pytest.mark.parametrize("document", ["docs/guides/kubernetes.md", "docs/guides/grants.md"])
def test_documents_register_all_of_them_where_a_worker_may_not(document):
    text = (ROOT / document).read_text()
    assert [name for name in ATTRIBUTES if f"--search-attribute {name}=Keyword" not in text] == []
