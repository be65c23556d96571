"""Arguments and options that several commands have, each described once."""

from typing import Annotated

import typer

TableArgument = Annotated[str, typer.Argument(help="A table of config/tables.yaml.")]
NetworkOption = Annotated[str, typer.Option("--network", "-n", help="The network, such as mainnet.")]
OnlyNetworkOption = Annotated[str, typer.Option("--network", "-n", help="Only this network.")]
FromOption = Annotated[str, typer.Option("--from", help="First partition, inclusive.")]
ToOption = Annotated[str, typer.Option("--to", help="Last partition, inclusive.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Export again what is there already.")]
AllowShrinkOption = Annotated[
    bool, typer.Option("--allow-shrink", help="With --force: also where the source holds less than the table.")
]
OldestFirstOption = Annotated[bool, typer.Option("--oldest-first", help="The default is newest first.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done; writes nothing.")]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the report.")]
WaitWithProgressOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the report, with progress.")]
