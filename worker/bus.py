"""The client of NATS, by itself: what only listens need not load the other drivers."""

from activities.clients.bus import Bus, BusSettings
from activities.core.credentials import NO_TLS, Secret
from worker.config import Environment
from worker.config_secrets import asked


def open_bus(environment: Environment) -> Bus:
    """The environment's NATS; it connects when it is first used."""
    return Bus(bus_settings(environment))


def bus_settings(environment: Environment) -> BusSettings:
    """How to reach the environment's NATS."""
    nats = environment.nats
    login: dict[str, Secret] = {}
    if nats.user is not None:
        login["user"] = nats.user
    for name in ("password", "token", "credentials", "nkey"):
        if (secret := getattr(nats, name)) is not None:
            login[name] = asked(secret)
    tls = nats.tls.files() if nats.tls is not None else NO_TLS
    return BusSettings(url=nats.url, stream=nats.stream, replicas=nats.replicas, login=login, tls=tls)
