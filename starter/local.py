"""`icefleet local …`: the embedded stack on this machine."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from deploy.local import control, logs
from deploy.local.environment import env_file, local_directory
from deploy.local.parts import ALL, PARTS, STANDARD_PORTS
from deploy.local.ports import PortInUse, variable

NOT_RUNNING = 3
"""Exit code of `status` when there is nothing to report on, as service managers have it."""
LAST_PORT = 65_535
COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
STATE_STYLES = {"ready": "green", "not answering": "yellow", "dead": "bold red"}
LABELS = {
    "temporal": "Temporal",
    "temporal-ui": "Temporal UI",
    "nats": "NATS JetStream",
    "s3": "S3",
    "catalog": "Iceberg catalog",
    "clickhouse": "ClickHouse",
    "postgres": "PostgreSQL",
    "worker": "Worker",
}

app = typer.Typer(
    no_args_is_help=True,
    help="Temporal, NATS, S3 with an Iceberg catalog, ClickHouse and PostgreSQL on this machine, in [bold].local/[/].",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]


@app.command(
    epilog="Examples:\n\n[cyan]icefleet local up --worker[/]\n\n[cyan]icefleet local up --port nats=4223[/]\n\n"
    "[cyan]icefleet local up --only nats,s3 --json[/]"
)
def up(
    worker: Annotated[bool, typer.Option("--worker", help="Run a worker as well.")] = False,
    port: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PORT", help=f"Insist on a port; names: {', '.join(STANDARD_PORTS)}."),
    ] = None,
    only: Annotated[str, typer.Option(metavar="PARTS", help=f"Some of {','.join(ALL)}.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Start whatever of the stack is not running, and wait until all of it is ready. The data are kept."""
    directory = local_directory()
    parts = [*(only.split(",") if only else ALL), *(["worker"] if worker else [])]
    started = time.monotonic()
    try:
        ports = _environment_ports() | _port_options(port or [])
        with err.status(f"Starting {', '.join(LABELS[part] for part in parts if part in LABELS)} …"):
            changed = control.up(directory, parts, ports)
    except (control.UpFailed, PortInUse, ValueError) as why:
        failure = _failed(str(why))
        if control.status(directory):
            err.print("What runs goes on: `icefleet local status` shows it, `icefleet local down` ends it")
        raise failure from why
    seconds = time.monotonic() - started
    _report(directory, f"The local stack is up ({seconds:.1f} s)" if changed else "Everything is up already", as_json)


@app.command(
    epilog="Examples:\n\n[cyan]icefleet local status[/]\n\n[cyan]icefleet local status --json[/]\n\n"
    "Exit code 0 when all parts are ready, 1 when one is not, 3 when nothing runs."
)
def status(as_json: JsonFlag = False) -> None:
    """Ask every part how it is."""
    _report(local_directory(), "", as_json)


@app.command(
    name="logs", epilog="Examples:\n\n[cyan]icefleet local logs[/]\n\n[cyan]icefleet local logs s3 -n 100 -f[/]"
)
def show_logs(
    part: Annotated[str, typer.Argument(help=f"One of {', '.join(PARTS)}, supervisor; all when left out.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines to begin with, of each.")] = 20,
) -> None:
    """Print the last lines of the parts' logs."""
    directory = local_directory()
    names = (*PARTS, "supervisor")
    if part and part not in names:
        raise _failed(f"no part is called `{part}`; there are {', '.join(names)}")
    chosen = [part] if part else list(names)
    for name, line in logs.last_lines(directory, chosen, lines):
        _print_line(name, line, chosen)
    if follow:
        try:
            for name, line in logs.new_lines(directory, chosen):
                _print_line(name, line, chosen)
        except KeyboardInterrupt:
            return


@app.command(epilog="Example: [cyan]icefleet local down[/]")
def down() -> None:
    """Stop what `up` started, and nothing else. The data are kept."""
    directory = local_directory()
    with err.status("Stopping the local stack …"):
        ran = control.down(directory)
    out.print(f"The local stack is down; its data stay in {_short(directory)}" if ran else _nothing_runs(directory))


@app.command(epilog="Example: [cyan]icefleet local reset --yes[/]")
def reset(yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Stop the stack, and delete its data, logs, ports and credentials."""
    directory = local_directory()
    if not yes:
        if not os.isatty(0):
            raise _failed(f"this deletes the stack's data in {directory}; say so with `--yes`")
        typer.confirm(f"Delete the local stack's data in {directory}?", abort=True)
    with err.status("Stopping the local stack and deleting its data …"):
        control.reset(directory)
    out.print(f"The local stack's data are gone from {_short(directory)}")


def _report(directory: Path, headline: str, as_json: bool) -> None:
    """Print how things are, and leave with the exit code that says the same."""
    parts = control.status(directory)
    ready = bool(parts) and all(part.state == "ready" for part in parts)
    if as_json:
        _print_json(directory, parts, ready)
    elif not parts:
        out.print(_nothing_runs(directory))
    else:
        if headline and ready:
            out.print(f"[bold]{headline}[/]\n")
        _print_table(parts)
        for part in parts:
            if part.state != "ready":
                out.print(Text(f"\n{part.name} is {part.state}: {part.detail}\n  log: {part.log}"))
        out.print(Text(f"\nCredentials  {_short(env_file(directory))}\nLogs         {_short(directory / 'logs')}"))
    raise typer.Exit(0 if ready else 1 if parts else NOT_RUNNING)


def _print_table(parts: Sequence[control.PartStatus]) -> None:
    """One line per address; a part's state and process stand on its first line."""
    rows = [
        (LABELS[name], address, None if below else part)
        for part in parts
        for below, (name, address) in enumerate(part.addresses.items() or [(part.name, "")])
    ]
    label_width = max(len(label) for label, _, _ in rows)
    address_width = max(len(address) for _, address, _ in rows)
    state_width = max(len(part.state) for part in parts)
    for label, address, part in rows:
        line = Text.assemble(f"{label:<{label_width}}   ", (f"{address:<{address_width}}", "cyan"))
        if part:
            state = (f"   {part.state:<{state_width}}", STATE_STYLES[part.state])
            line = Text.assemble(line, state, (f"   pid {part.pid}", "dim"))
        line.rstrip()
        out.print(line)


def _print_json(directory: Path, parts: Sequence[control.PartStatus], ready: bool) -> None:
    report = {
        "ready": ready,
        "directory": str(directory),
        "env": str(env_file(directory)),
        "parts": {
            part.name: {
                "state": part.state,
                "detail": part.detail,
                "pid": part.pid,
                "addresses": dict(part.addresses),
                "log": part.log,
            }
            for part in parts
        },
    }
    print(json.dumps(report, indent=2))


def _print_line(name: str, line: str, chosen: Sequence[str]) -> None:
    if len(chosen) == 1:
        out.print(Text(line))
        return
    colour = COLOURS[chosen.index(name) % len(COLOURS)]
    out.print(Text.assemble((f"{name:<10} │ ", colour), line))


def _environment_ports() -> dict[str, int]:
    """Ports that the process environment insists on."""
    named = {name: os.environ.get(variable(name)) for name in STANDARD_PORTS}
    return {name: _port_number(variable(name), text) for name, text in named.items() if text}


def _port_options(options: Sequence[str]) -> dict[str, int]:
    pairs = [option.partition("=") for option in options]
    return {name: _port_number(f"--port {name}", text) for name, _, text in pairs}


def _port_number(where: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= LAST_PORT:
        raise ValueError(
            f"{where}: `{text}` is no port; write a number from 1 to {LAST_PORT}, as in `--port nats=4223`"
        )
    return int(text)


def _short(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _nothing_runs(directory: Path) -> str:
    return f"Nothing runs in {_short(directory)}; `icefleet local up` starts it"


def _failed(message: str) -> typer.Exit:
    err.print(Text.assemble(("error: ", "bold red"), message))
    return typer.Exit(1)
