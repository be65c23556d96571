"""What documents show in fences."""

import re


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks, also those within lists."""
    return [match[1] for match in re.finditer(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)]
