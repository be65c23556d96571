"""Which tables and networks a list of names, patterns and groups chooses, and what is wrong with the list."""

import difflib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from activities.core.names import near
from activities.core.tables import TableConfig

GROUP, TABLE = "group:", "table:"
Export = tuple[TableConfig, str]
"""A table and one of its networks."""
_PATTERN = frozenset("*?[")


def choose(
    exports: Sequence[Export], tables: Sequence[str], networks: Sequence[str], explain: Callable[[str], str]
) -> tuple[list[Export], list[str]]:
    """What is chosen, each table and network once, in the order of the list; and every problem of the list.

    Args:
        exports: All tables and networks that there are.
        tables: Names of tables, patterns of them, names of groups; `group:` or `table:` says which, `group:` also of a
            pattern.
        networks: Names of networks, and patterns of them; none: all.
        explain: What to say of a table's name that is not among `exports`.
    """
    problems = [] if tables else ["field 'tables' is empty: name tables, patterns such as canonical_*, or groups"]
    known = dict.fromkeys(network for _, network in exports)
    wanted_networks = [name for name in known if not networks or any(fnmatchcase(name, one) for one in networks)]
    unknown = [one for one in networks if not any(fnmatchcase(name, one) for name in known)]
    problems += [f"no table has a network {one!r}{near(one, known)}" for one in unknown]
    chosen: dict[tuple[str, str], Export] = {}
    for wanted in tables:
        named, problem = _named(exports, wanted, explain)
        found = [export for export in named if export[1] in wanted_networks]
        if problem:
            problems.append(problem)
        elif not found and wanted_networks:
            has = ", ".join(dict.fromkeys(network for _, network in named))
            problems.append(f"{wanted!r} has none of the networks {', '.join(networks)}; it has {has}")
        chosen |= {(config.name, network): (config, network) for config, network in found}
    return list(chosen.values()), problems


def _named(exports: Sequence[Export], wanted: str, explain: Callable[[str], str]) -> tuple[list[Export], str]:
    """What one word of the list stands for, or what is wrong with it."""
    names = {config.name for config, _ in exports}
    groups = {config.group for config, _ in exports}
    name = wanted.removeprefix(GROUP).removeprefix(TABLE)
    if not wanted.startswith((GROUP, TABLE)):
        if _PATTERN & set(wanted):
            found = [export for export in exports if fnmatchcase(export[0].name, wanted)]
            return found, "" if found else f"no table's name fits the pattern {wanted!r}"
        if wanted in names and wanted in groups:
            return [], f"{wanted!r} is a table and a group: write {TABLE}{wanted} or {GROUP}{wanted}"
    if wanted.startswith(GROUP) or (name in groups and not wanted.startswith(TABLE)):
        found = [export for export in exports if fnmatchcase(export[0].group, name)]
        return found, "" if found else f"no group {name!r} in config{near(name, groups)}"
    if name in names:
        return [export for export in exports if export[0].name == name], ""
    close = difflib.get_close_matches(name, groups, n=1, cutoff=0.8)
    return [], f"no table or group {name!r}; did you mean the group `{close[0]}`?" if close else explain(name)
