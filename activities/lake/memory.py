"""What Arrow holds of this process's memory."""

import pyarrow as pa


def allocated_bytes() -> int:
    """Bytes that Arrow's default allocator has given out."""
    return int(pa.total_allocated_bytes())
