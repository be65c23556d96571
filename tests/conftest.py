"""Fixtures that every room may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole embedded stack on free ports, started for the first test that asks and shared by all.

    When it does not start, the error holds the end of the failing part's log.
    """
    directory: Path = tmp_path_factory.mktemp("stack")
    with Stack(directory) as running:
        yield running
