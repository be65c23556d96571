"""The search attributes by which the Temporal UI finds our workflows."""

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, NETWORK_ATTRIBUTE, TABLE_ATTRIBUTE
from activities.core.faults import BadConfig

ATTRIBUTES = (ENVIRONMENT_ATTRIBUTE.name, TABLE_ATTRIBUTE.name, NETWORK_ATTRIBUTE.name)
_MAY_NOT = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED)


async def missing_attributes(client: Client) -> list[str]:
    """Those of ours that the client's namespace does not know."""
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return [name for name in ATTRIBUTES if name not in known.custom_attributes]


async def register_attributes(client: Client) -> list[str]:
    """Register what is missing, and answer its names.

    Raises:
        BadConfig: this client may not, as nobody may by this way on Temporal Cloud; says who can, and how.
        RPCError: Temporal refuses for another reason.
    """
    missing = await missing_attributes(client)
    if not missing:
        return []
    request = AddSearchAttributesRequest(
        namespace=client.namespace,
        search_attributes=dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
    )
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as refused:
        if refused.status not in _MAY_NOT:
            raise
        raise BadConfig(_way_out(client.namespace, missing, refused.message)) from refused
    return missing


def _way_out(namespace: str, missing: list[str], why: str) -> str:
    on_cloud = " ".join(f"--search-attribute {name}=Keyword" for name in missing)
    elsewhere = " ".join(f"--name {name} --type Keyword" for name in missing)
    return (
        f"namespace {namespace} lacks the search attributes {', '.join(missing)}, each of type Keyword, and we may not "
        f"register them ({why}). Whoever administers the namespace does it once; on Temporal Cloud by\n"
        f"  tcld namespace search-attributes add --namespace {namespace} {on_cloud}\n"
        f"and on a server of your own by\n"
        f"  temporal operator search-attribute create --namespace {namespace} {elsewhere}"
    )
