"""The samples of a soak as an SVG: one strip for each value, time from left to right."""

from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, LEFT, GAP = 960, 120, 80, 46
STRIPS = {
    "resident_mb": "resident memory, MB",
    "open_files": "open files",
    "history_events": "events of the longest history of all loops",
    "partitions": "partitions exported",
    "changes": "changes made at PostgreSQL",
}


def drawn(samples: Sequence[Any]) -> str:
    """An SVG document; `samples` have `minute` and every value of STRIPS."""
    height = len(STRIPS) * (HEIGHT + GAP) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="12" font-family="sans">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    last = max(sample.minute for sample in samples) or 1
    for number, (name, title) in enumerate(STRIPS.items()):
        top = number * (HEIGHT + GAP) + 28
        values = [getattr(sample, name) for sample in samples]
        ceiling = max(values) * 1.1 or 1
        points = " ".join(
            f"{LEFT + (WIDTH - LEFT - 20) * sample.minute / last:.1f},{top + HEIGHT - HEIGHT * value / ceiling:.1f}"
            for sample, value in zip(samples, values, strict=True)
        )
        parts += [
            f'<text x="{LEFT}" y="{top - 8}">{title}: {values[0]:,.0f} … {values[-1]:,.0f}</text>',
            f'<text x="{LEFT - 8}" y="{top + 10}" text-anchor="end">{ceiling:,.0f}</text>',
            f'<text x="{LEFT - 8}" y="{top + HEIGHT}" text-anchor="end">0</text>',
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 20}" height="{HEIGHT}" fill="none" stroke="#bbb"/>',
            f'<polyline points="{points}" fill="none" stroke="#1f5fbf" stroke-width="1.5"/>',
        ]
    parts.append(f'<text x="{LEFT}" y="{height - 6}">0 to {last:.0f} minutes</text></svg>')
    return "\n".join(parts) + "\n"
