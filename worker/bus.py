"""The client of NATS, by itself: what only listens need not load the other drivers."""

from activities.clients.bus import Bus, BusSettings
from worker.config import Environment


def open_bus(environment: Environment) -> Bus:
    """The environment's NATS; it connects when it is first used."""
    return Bus(bus_settings(environment))


def bus_settings(environment: Environment) -> BusSettings:
    """How to reach the environment's NATS."""
    nats = environment.nats
    login: dict[str, str] = {}
    if nats.user is not None:
        login["user"] = nats.user
    for name in ("password", "token"):
        if secret := getattr(nats, name):
            login[name] = secret.get_secret_value()
    if nats.credentials:
        login["credentials"] = nats.credentials.get_secret_value()
    return BusSettings(url=nats.url, stream=nats.stream, replicas=nats.replicas, login=login)
