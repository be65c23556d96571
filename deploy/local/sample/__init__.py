"""A small, fixed piece of two Ethereum networks in real Xatu schemas, made by SQL alone.

Every value is a hash of its row's key and a fixed seed: the rows are the same on any ClickHouse server, at any time and
with any number of threads. What the sample promises, and its tests check:

- two networks with a few days of block events, some hours of attestations with one empty hour between them, and
  execution blocks that fill five chunks of 1,000 and begin a sixth;
- rows that arrived hours or days after their slot;
- rows that came again with the same key: newer versions, some merged and some not, and replays that must lose;
- integers above 2^63, NULLs, empty strings, texts in several scripts, both kinds of IPv6 addresses.
"""

from deploy.local.sample.sql import Statement
from deploy.local.sample.statements import drops, late_rows, mark, statements
from deploy.local.sample.tables import COMMENT, TABLES, SampleTable

__all__ = ["COMMENT", "TABLES", "SampleTable", "Statement", "drops", "late_rows", "mark", "statements"]
