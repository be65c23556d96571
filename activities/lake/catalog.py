"""The catalog: opening it, and the tables in it."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.rest.auth import AuthManagerAdapter
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    BadRequestError,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    TableAlreadyExistsError,
    UnauthorizedError,
)
from pyiceberg.io import load_file_io
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from requests.adapters import HTTPAdapter

from activities import spans
from activities.core.columns import ExportColumn
from activities.core.credentials import is_tls_trouble, tls_advice
from activities.core.faults import CatalogRefused, CatalogUnavailable
from activities.core.tables import PartitionRule
from activities.lake.content import Files
from activities.lake.login import CatalogLogin, logged_in
from activities.lake.schema import iceberg_schema, partition_spec, table_properties

T = TypeVar("T")
REFUSALS = (
    *(UnauthorizedError, ForbiddenError, OAuthError, AuthorizationExpiredError, BadRequestError),
    # What PyIceberg makes of a 501, and `requests` of an address that is none.
    *(NotImplementedError, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema),
    requests.exceptions.InvalidURL,
)
MAY_PASS = frozenset({408, 409, 425, 429})
"""Answers below 500 after which asking again can help."""


def says_no(answered: Exception) -> bool:
    """Whether the catalog answered with a status that asking again cannot mend, such as 404 or 422."""
    failed = answered.__cause__
    if not isinstance(failed, requests.HTTPError) or failed.response is None:
        return False
    status = failed.response.status_code
    return 400 <= status < 500 and status not in MAY_PASS  # noqa: PLR2004 - HTTP's own border


class _TimedAdapter(HTTPAdapter):
    """Requests of their own accord wait for ever; a catalog that hangs must not hold a worker's thread.

    They also forget a session's own authorities as soon as a variable names others.
    """

    def __init__(self, timeout: float, ca_file: str) -> None:
        self._timeout = timeout
        self._ca_file = ca_file
        super().__init__(pool_maxsize=32)

    def send(self, request: Any, **options: Any) -> Any:  # type: ignore[override]
        options["timeout"] = options.get("timeout") or self._timeout
        options["verify"] = self._ca_file or options.get("verify", True)
        path = urlsplit(request.url).path
        with spans.request(f"catalog {request.method}", **{"url.path": path}) as span:
            request.headers.update(spans.headers(span))
            answer = super().send(request, **options)
            span.set_attribute("http.response.status_code", answer.status_code)
            return answer


class _TimedCatalog(RestCatalog):
    def __init__(self, name: str, timeout: float, login: CatalogLogin, ca_file: str, **properties: Any) -> None:
        self._timeout = timeout
        self._login = login
        self._ca_file = ca_file
        super().__init__(name, **properties)

    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _TimedAdapter(self._timeout, self._ca_file))
        own = logged_in(self._login, session, self.auth_url, self._extract_optional_oauth_params())
        if own is not None:
            self._auth_manager = own
            session.auth = AuthManagerAdapter(own)
        return session


class Lake:
    """One catalog, opened when it is first needed.

    `properties` are PyIceberg's: `uri`, `warehouse`, and `s3.*` of the storage that holds metadata and data; `fileio`
    knows further ones. Methods block: callers in a loop run them in threads.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        *,
        login: CatalogLogin | None = None,
        ca_file: str = "",
        timeout_seconds: float = 30,
    ) -> None:
        self._properties = dict(properties)
        self._login = login or CatalogLogin()
        self._ca_file = ca_file
        self._timeout = timeout_seconds
        self._catalog: RestCatalog | None = None

    @property
    def catalog(self) -> RestCatalog:
        """The open catalog.

        Raises:
            CatalogUnavailable: it cannot be reached.
            CatalogRefused: it does not accept the credential or the warehouse.
        """
        if self._catalog is None:
            self._catalog = self.ask(
                lambda: _TimedCatalog("icefleet", self._timeout, self._login, self._ca_file, **self._properties)
            )
        return self._catalog

    def ask(self, question: Callable[[], T]) -> T:
        """Run something that talks to the catalog, and name what went wrong."""
        try:
            return question()
        except REFUSALS as refused:
            raise self.refusal(refused) from refused
        except (requests.RequestException, RESTError) as away:
            if says_no(away):
                raise self.refusal(away) from away
            if is_tls_trouble(away):
                way_out = tls_advice("catalog")
                raise CatalogRefused(f"{self.where}: no connection by TLS: {away}; {way_out}") from away
            raise self.unavailable("", away) from away

    def refusal(self, refused: Exception) -> CatalogRefused:
        """What to tell the operator when the catalog says no."""
        return CatalogRefused(
            f"{self.where} refused: {refused}; check its credential, warehouse and rights in environments.yaml"
        )

    def unavailable(self, what: str, away: Exception) -> CatalogUnavailable:
        """What to tell the operator when the catalog gives no good answer; `what` came of it."""
        return CatalogUnavailable(f"{what + ': ' if what else ''}{self.where} did not answer as it should: {away}")

    @property
    def where(self) -> str:
        """What messages call the catalog."""
        return f"catalog {self._properties.get('uri')} (warehouse {self._properties.get('warehouse')!r})"

    def load(self, identifier: str) -> Table | None:
        """The table as it is now, or None when the catalog has none of that name."""
        catalog = self.catalog
        try:
            table: Table = self.ask(lambda: catalog.load_table(identifier))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        return table

    def create(self, identifier: str, columns: tuple[ExportColumn, ...], rule: PartitionRule) -> None:
        """Make an export's table, unless somebody else has made one of that name meanwhile."""
        schema = iceberg_schema(columns)
        self.make(identifier, schema, partition_spec(schema, rule), table_properties())

    def make(self, identifier: str, schema: Schema, spec: PartitionSpec, properties: Mapping[str, str]) -> None:
        """Make a table and its namespace, unless somebody else has made one of that name meanwhile."""
        namespace = identifier.rpartition(".")[0]
        catalog = self.catalog
        with contextlib.suppress(NamespaceAlreadyExistsError):  # another table of it was first
            self.ask(lambda: catalog.create_namespace(namespace))
        with contextlib.suppress(TableAlreadyExistsError):  # another worker was first
            self.ask(
                lambda: catalog.create_table(
                    identifier, schema=schema, partition_spec=spec, properties=dict(properties)
                )
            )

    def check(self) -> None:
        """See that the catalog answers and takes the credential, whatever it says of single tables.

        Raises:
            CatalogRefused: it does not accept the credential or the warehouse.
            CatalogUnavailable: it cannot be reached.
        """
        self.ask(self.catalog.list_namespaces)

    def files(self) -> Files:
        """Any file of the storage that holds metadata and data."""
        return Files(load_file_io(dict(self._properties)))

    def identifiers(self) -> list[str]:
        """Every table in the catalog, as `<network>.<table>`."""
        catalog = self.catalog
        namespaces = self.ask(catalog.list_namespaces)
        return sorted(name for namespace in namespaces for name in self.tables_in(namespace))

    def tables_in(self, namespace: tuple[str, ...]) -> list[str]:
        """The tables of one namespace, as `<network>.<table>`; none when there is no such namespace."""
        catalog = self.catalog
        try:
            return [".".join(name) for name in self.ask(lambda: list(catalog.list_tables(namespace)))]
        except NoSuchNamespaceError:
            return []
