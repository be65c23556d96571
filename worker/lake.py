"""The client of the catalog, by itself: what only looks at the lake need not load the other drivers."""

from activities.lake.catalog import Lake
from worker.config import Environment


def open_lake(environment: Environment) -> Lake:
    """The environment's catalog, with the storage that holds metadata and data."""
    catalog, storage = environment.catalog, environment.storage
    properties = {
        "type": "rest",
        "uri": catalog.uri,
        "warehouse": catalog.warehouse,
        "py-io-impl": "activities.lake.fileio.SharedFileIO",
        "s3.endpoint": storage.endpoint,
        "s3.region": storage.region,
        "s3.access-key-id": storage.access_key.get_secret_value(),
        "s3.secret-access-key": storage.secret_key.get_secret_value(),
        "s3.connect-timeout": "10",
        "s3.request-timeout": "60",
        **catalog.properties,
    }
    if catalog.credential:
        properties["credential"] = catalog.credential.get_secret_value()
    if catalog.token:
        properties["token"] = catalog.token.get_secret_value()
    if catalog.oauth2_server_uri:
        properties["oauth2-server-uri"] = catalog.oauth2_server_uri
    return Lake(properties)
