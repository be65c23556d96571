"""The names of task queues that hold activities only, derived from those that config names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QueueNames:
    """An environment's queues, as config has them."""

    environment: str
    control: str
    """Where requests and table loops wait."""
    upkeep: str

    def export(self, source: str) -> str:
        """Where the exports of the cluster `<environment>.<cluster>` wait."""
        return f"{self.control}-{self.lane(source)}"

    def lane(self, source: str) -> str:
        """What a cluster is called here: `<cluster>`, or `<environment>.<cluster>` if it is another environment's."""
        owner, _, cluster = source.partition(".")
        return cluster if owner == self.environment else source

    @property
    def verify(self) -> str:
        """Where verifications of tables wait."""
        return f"{self.upkeep}-verify"

    @property
    def mirrors(self) -> str:
        """Where what reads whole mirrors waits."""
        return f"{self.upkeep}-mirrors"
