"""SQL of execution blocks."""

from deploy.local.sample.networks import FIRST, Network, Version, seconds
from deploy.local.sample.sql import SEED, digest, insert, literal
from deploy.local.sample.tables import EXECUTION_BLOCKS

_WRITTEN = seconds("2024-03-20")
"""Unix seconds at which block 0 was written; the others follow, five seconds each."""
_EXTRA = (
    "beaverbuild.org",
    "",
    "Illuminate Dmocratize Dstribute",
    "🦄 geth/v1.13.14 🚀",
    "以太坊矿工",
    "Grüße aus Zürich, ça va?",
    "Ω≈ç√∫ — €",
    "تعدين",
    'it\'s "quoted" \\ with\ta tab\nand a line',
    "👩‍🚀👨‍👩‍👧",
)
_LARGEST = 2**64 - 1
_TWO_63 = 2**63


def execution_blocks(
    database: str, network: Network, first: int, count: int, *, version: Version = FIRST, arrival: int = 0
) -> str:
    """INSERT of `count` blocks from number `first`; `arrival` (unix seconds) is their version if it is given.

    One block in ten has no base fee, and two in a thousand have one that no signed integer of 64 bits can hold.
    """
    written = f"{arrival}" if arrival else f"{_WRITTEN} + number * 5"
    extras = ", ".join(literal(text) for text in _EXTRA)
    fee = (
        f"multiIf(number % 1000 = 999, toUInt64({_LARGEST}), number % 1000 = 1, toUInt64({_TWO_63}) + number, "
        f"lot % 10 = 0, NULL, toUInt64(7 + lot % 100000000000))"
    )
    return insert(
        EXECUTION_BLOCKS,
        database,
        aliases={
            "lot": f"cityHash64({SEED}, {literal(network.name)}, number)",
            "extra": f"if(intDiv(lot, 1000) % 12 = 11, NULL, [{extras}][intDiv(lot, 100000) % {len(_EXTRA)} + 1])",
            "hash": digest(literal(f"{network.name}/execution/"), "toString(number)"),
        },
        columns={
            "updated_date_time": f"toDateTime({written} + ({version.later}))",
            "block_date_time": (
                f"fromUnixTimestamp64Milli(toInt64(({network.first_block} + number * {network.block_seconds}) * 1000))"
            ),
            "block_number": "number",
            "block_hash": "hash",
            "author": "if(number = 0, NULL, substring(hash, 1, 42))",
            "gas_used": f"if(number = 0, NULL, toUInt64(lot % 30000000 + {version.number}))",
            "gas_limit": "30000000 + lot % 1000",
            "extra_data": "concat('0x', lower(hex(extra)))",
            "extra_data_string": "extra",
            "base_fee_per_gas": fee,
            "meta_network_name": literal(network.name),
        },
        rows=f"numbers({first}, {count})\nWHERE {version.keeps('lot')}",
    )
