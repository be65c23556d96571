"""What an environment may say differently of a table, and the exact words for what it may not."""

import pytest

TEMPORAL = "      address: 127.0.0.1:7233\n"
HERE = "environments.local.tables"
OVERRIDE_CASES = {
    "a table that does not exist": (
        "block: {enabled: false}",
        [f"environments.yaml:19 {HERE}.block: no table 'block' in config; did you mean `blocks`?"],
    ),
    "a key that only the table itself may say": (
        "blocks: {lag: 3h}",
        [f"environments.yaml:19 {HERE}.blocks.lag: unknown key; known: `enabled`, `networks`, `types`"],
    ),
    "a range of the wrong kind": (
        "canonical: {networks: [{name: mainnet, start_date: 2024-03-18}]}",
        [
            (
                f"environments.yaml:19 {HERE}.canonical.networks.mainnet.start_date: "
                "this table is integer; give `start_index` instead"
            )
        ],
    ),
    "a range that ends before it starts": (
        "blocks: {networks: [{name: mainnet, start_date: 2024-03-18, end_date: 2024-03-17}]}",
        [
            (
                f"environments.yaml:19 {HERE}.blocks.networks.mainnet.end_date: "
                "2024-03-17 lies before start_date 2024-03-18"
            )
        ],
    ),
    "a day that does not exist": (
        "blocks: {networks: [{name: mainnet, start_date: 2024-02-30}]}",
        [
            (
                f"environments.yaml:19 {HERE}.blocks.networks.mainnet.start_date: "
                "expected a date such as 2024-03-20, not '2024-02-30'"
            )
        ],
    ),
    "no networks": ("blocks: {networks: []}", [f"environments.yaml:19 {HERE}.blocks.networks: must not be empty"]),
    "a type that Iceberg lacks": (
        "blocks: {types: {fee: UInt64}}",
        [
            (
                f"environments.yaml:19 {HERE}.blocks.types.fee: "
                "'UInt64' is no Iceberg type; such as long, string, decimal(20,0) or fixed[66]"
            )
        ],
    ),
    "no mapping": (
        "blocks: off",
        [f"environments.yaml:19 {HERE}.blocks: expected a mapping of keys to values, not False"],
    ),
    "two wrong things at once": (
        "blocks: {enabled: maybe}\n      other: {}",
        [
            f"environments.yaml:19 {HERE}.blocks.enabled: expected true or false, not 'maybe'",
            f"environments.yaml:20 {HERE}.other: no table 'other' in config; known: `blocks`, `canonical`",
        ],
    ),
}


@pytest.mark.parametrize("case", OVERRIDE_CASES)
def test_bad_overrides_of_an_environment_are_refused_like_bad_tables(refused, case):
    written, expected = OVERRIDE_CASES[case]
    assert refused(environments=[(TEMPORAL, f"{TEMPORAL}    tables:\n      {written}\n")]) == expected


def test_an_override_of_a_table_in_a_file_that_cannot_be_read_is_not_blamed(refused):
    text = f"{TEMPORAL}    tables:\n      blocks: {{enabled: false}}\n"
    [problem] = refused(environments=[(TEMPORAL, text)], tables=[("      lag: 2h", "\tlag: 2h")])
    assert problem == "tables.yaml:5: a tab; YAML is indented and separated with spaces"
