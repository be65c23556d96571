"""What every snapshot of a mirror that is ours says of itself."""

from collections.abc import Mapping

from activities.committing import origin
from activities.core.mirrors import INDEX, PREFIX, WATERMARK, IndexPointer, Watermark


def mirror_summary(
    watermark: Watermark, pointer: IndexPointer | None, counts: Mapping[str, int] | None = None
) -> dict[str, str]:
    """How far the mirror has merged, where its index is (None: the next merge makes it), what was done, and by whom."""
    return {
        WATERMARK: watermark.dump(),
        **({INDEX: pointer.dump()} if pointer else {}),
        **{f"{PREFIX}{name}": str(count) for name, count in (counts or {}).items()},
        **origin(),
    }
