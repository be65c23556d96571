"""The client of the catalog, by itself: what only looks at the lake need not load the other drivers."""

from activities.core.credentials import StoreKeys
from activities.lake.catalog import Lake
from activities.lake.fileio import CA_FILE, KEYS
from activities.lake.login import CatalogLogin
from worker.config import Environment, Storage
from worker.config_secrets import asked


def open_lake(environment: Environment) -> Lake:
    """The environment's catalog, with the storage that holds metadata and data."""
    catalog, storage = environment.catalog, environment.storage
    named = named_keys(storage)
    properties = {
        "type": "rest",
        "uri": catalog.uri,
        "warehouse": catalog.warehouse,
        "py-io-impl": "activities.lake.fileio.SharedFileIO",
        "s3.endpoint": storage.endpoint,
        "s3.region": storage.region,
        "s3.connect-timeout": "10",
        "s3.request-timeout": "60",
        KEYS: named.now if named is not None else _role_keys,
        **catalog.properties,
    }
    if authorities := storage.tls.files().ca_file:
        properties[CA_FILE] = authorities
    if catalog.oauth2_server_uri:
        properties["oauth2-server-uri"] = catalog.oauth2_server_uri
    login = CatalogLogin(credential=asked(catalog.credential), token=asked(catalog.token))
    return Lake(properties, login=login, ca_file=catalog.tls.files().ca_file)


def named_keys(storage: Storage) -> StoreKeys | None:
    """The keys that config names for the bucket; None: it is left to the role that this process has."""
    if storage.access_key is None:
        return None
    return StoreKeys(asked(storage.access_key), asked(storage.secret_key), asked(storage.session_token))


def current_keys(storage: Storage) -> tuple[str, str, str]:
    """Access key, secret key and session token for the bucket as they are just now."""
    named = named_keys(storage)
    return named.now() if named is not None else _role_keys()


def _role_keys() -> tuple[str, str, str]:
    # Only who has a role waits until the driver is loaded.
    from activities.clients.storekeys import role_keys  # noqa: PLC0415

    return role_keys()
