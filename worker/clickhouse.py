"""The client of a source, by itself: what only asks ClickHouse need not load the other drivers."""

from activities.clients.clickhouse import ClickHouse, ClickHouseSettings
from activities.core.credentials import NO_TLS
from worker.config import ClickHouseCluster, Environment, Settings
from worker.config_secrets import asked


def open_clickhouse(settings: Settings, source: str, *, patient: bool = False) -> ClickHouse:
    """The client of one cluster, `<environment>.<cluster>`; a patient one waits while the cluster is full."""
    cluster = settings.cluster(source)
    return ClickHouse(
        ClickHouseSettings(
            name=source,
            host=cluster.host,
            port=cluster.port,
            secure=cluster.secure,
            user=cluster.user,
            password=asked(cluster.password),
            tls=cluster.tls.files() if cluster.tls is not None else NO_TLS,
            limits=query_limits(cluster),
            export_slots=cluster.export_slots,
            lookup_slots=cluster.lookup_slots,
            patient=patient,
        )
    )


def query_limits(cluster: ClickHouseCluster) -> dict[str, int]:
    """The settings by which one query is limited; what is 0 is left to the user's profile."""
    limits = {
        "max_execution_time": cluster.max_execution_time,
        "max_memory_usage": cluster.max_memory_usage,
        "max_threads": cluster.max_threads,
        "max_rows_to_read": cluster.max_rows_to_read,
        "max_bytes_to_read": cluster.max_bytes_to_read,
    }
    return {name: limit for name, limit in limits.items() if limit}


def named_collection(environment: Environment) -> str:
    """Under which name ClickHouse is to write files itself; empty when it is not to."""
    return environment.storage.named_collection or "" if environment.export.transfer == "direct" else ""
