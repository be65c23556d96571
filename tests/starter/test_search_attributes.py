"""Search attributes that only an administrator of Temporal may register: the command says which, and how."""
# ruff: noqa: N802 - methods are called as the server's interface has them

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesResponse
from temporalio.api.operatorservice.v1.service_pb2_grpc import (
    OperatorServiceServicer,
    add_OperatorServiceServicer_to_server,
)
from temporalio.api.workflowservice.v1 import GetSystemInfoResponse
from temporalio.api.workflowservice.v1.service_pb2_grpc import (
    WorkflowServiceServicer,
    add_WorkflowServiceServicer_to_server,
)
from typer.testing import CliRunner

from starter.main import build


class Workflows(WorkflowServiceServicer):
    def GetSystemInfo(self, request, context):
        del request, context
        return GetSystemInfoResponse()


class Operator(OperatorServiceServicer):
    """Of a server that shows search attributes, and takes none."""

    def __init__(self, status):
        self._status = status

    def ListSearchAttributes(self, request, context):
        del request, context
        return ListSearchAttributesResponse(custom_attributes={"IcefleetTable": 2})

    def AddSearchAttributes(self, request, context):
        del request
        context.abort(self._status, "Request unauthorized.")


@pytest.mark.parametrize("status", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED])
def test_what_only_an_administrator_may_register_is_named_with_the_commands_for_it(nothing_runs, status):
    server = grpc.server(ThreadPoolExecutor(4))
    add_WorkflowServiceServicer_to_server(Workflows(), server)
    add_OperatorServiceServicer_to_server(Operator(status), server)
    assert server.add_insecure_port(f"127.0.0.1:{nothing_runs['TEMPORAL']}")
    server.start()
    try:
        said = CliRunner().invoke(build(("temporal", "init")), ["temporal", "init"])
    finally:
        server.stop(0)
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == (
        "error: Temporal does not let this client register search attributes in namespace default: Request "
        "unauthorized; have an administrator add IcefleetEnvironment, IcefleetNetwork, each of type Keyword: on "
        'Temporal Cloud `tcld namespace search-attributes add --namespace default --sa "IcefleetEnvironment=Keyword" '
        '--sa "IcefleetNetwork=Keyword"`, on a server of your own `temporal operator search-attribute create '
        "--namespace default --name IcefleetEnvironment --type Keyword --name IcefleetNetwork --type Keyword`\n"
    )
