"""`.local/env`: the stack's addresses and credentials, for this machine's user alone."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

DIRECTORY_VARIABLE = "ICEFLEET_LOCAL_DIR"
CLICKHOUSE_PASSWORD = "ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD"  # noqa: S105 - a variable's name
POSTGRES_PASSWORD = "ICEFLEET_LOCAL_POSTGRES_PASSWORD"  # noqa: S105 - a variable's name
S3_ACCESS_KEY = "ICEFLEET_LOCAL_S3_ACCESS_KEY"
S3_SECRET_KEY = "ICEFLEET_LOCAL_S3_SECRET_KEY"  # noqa: S105 - a variable's name
CATALOG_CREDENTIAL = "ICEFLEET_LOCAL_CATALOG_CREDENTIAL"


def local_directory() -> Path:
    """The stack's directory: $ICEFLEET_LOCAL_DIR, or `.local` under the current directory."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or ".local").absolute()


def env_file(directory: Path) -> Path:
    """Where a stack in this directory keeps its addresses and credentials."""
    return directory / "env"


def read(directory: Path) -> dict[str, str]:
    """What the file says; empty when there is none yet."""
    file = env_file(directory)
    if not file.exists():
        return {}
    pairs = (line.partition("=") for line in file.read_text().splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def with_credentials(known: Mapping[str, str]) -> dict[str, str]:
    """`known` and, where it lacks them, fresh random credentials."""
    values = dict(known)
    values.setdefault(CLICKHOUSE_PASSWORD, secrets.token_urlsafe(24))
    values.setdefault(POSTGRES_PASSWORD, secrets.token_urlsafe(24))
    values.setdefault(S3_ACCESS_KEY, secrets.token_hex(10))
    values.setdefault(S3_SECRET_KEY, secrets.token_urlsafe(30))
    values[CATALOG_CREDENTIAL] = f"{values[S3_ACCESS_KEY]}:{values[S3_SECRET_KEY]}"
    return values


def write(directory: Path, values: Mapping[str, str]) -> None:
    """Replace the file as a whole; nobody but its owner can read it, at any moment."""
    replace(env_file(directory), "".join(f"{key}={values[key]}\n" for key in sorted(values)))


def replace(file: Path, text: str) -> None:
    """Write a small file so that readers see the old text or the new, never a part, and others nothing."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    fresh.replace(file)
