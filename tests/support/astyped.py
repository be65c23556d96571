"""Blocks of documents, typed as they stand but for the addresses and credentials of a stack."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.stack import Stack
from support.fences import blocks
from support.lakereaders import split_credential
from worker.config import Environment

PORTS: Mapping[str, str] = {"8333": "s3", "8181": "catalog", "4222": "nats"}
"""As documents have them → the part that has another one here."""
CLICKHOUSE = """
import chdb, sys
connection = chdb.connect(":memory:")
for statement in sys.argv[1].split(";\\n"):
    print(connection.query(statement).bytes().decode())
"""


def block_of(document: Path, language: str, mark: str) -> str:
    """The one block of a language that holds `mark`."""
    [found] = [body for body in blocks(document.read_text(encoding="utf-8"), language) if mark in body]
    return found


def filled(text: str, stack: Stack, environment: Environment) -> str:
    """A block with the stack's own addresses and credentials in it."""
    key, secret = split_credential(environment)
    text = text.replace("https://data.example.org", "http://127.0.0.1:8333/icefleet")
    for port, part in PORTS.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{stack.ports[part]}")
    text = re.sub(r"\b(KEY_ID|CLIENT_ID) '…'", rf"\1 '{key}'", text)
    text = re.sub(r"\b(SECRET|CLIENT_SECRET) '…'", rf"\1 '{secret}'", text)
    for quote in "'\"":
        text = text.replace(f"{quote}key{quote}", f"{quote}{key}{quote}")
        text = text.replace(f"{quote}secret{quote}", f"{quote}{secret}{quote}")
        text = text.replace(f"{quote}key:secret{quote}", f"{quote}{key}:{secret}{quote}")
    return text


async def ran(program: str, *arguments: str, **variables: str) -> str:
    """What a program says, which must end well."""
    command = asyncio.to_thread(
        subprocess.run,
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        **({"env": variables} if variables else {}),
    )
    done = await command
    assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


async def by_clickhouse(text: str) -> str:
    """What ClickHouse answers to statements, in a process of its own."""
    return await ran(sys.executable, "-c", CLICKHOUSE, text.strip().removesuffix(";"))
