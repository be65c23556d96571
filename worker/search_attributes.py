"""The search attributes by which the Temporal UI finds our workflows."""

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, NETWORK_ATTRIBUTE, TABLE_ATTRIBUTE

ATTRIBUTES = (ENVIRONMENT_ATTRIBUTE.name, TABLE_ATTRIBUTE.name, NETWORK_ATTRIBUTE.name)


async def missing_attributes(client: Client) -> list[str]:
    """Those of ours that the client's namespace does not know."""
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return [name for name in ATTRIBUTES if name not in known.custom_attributes]


async def register_attributes(client: Client) -> list[str]:
    """Register what is missing, and answer its names."""
    missing = await missing_attributes(client)
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace,
                search_attributes=dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
            )
        )
    return missing
