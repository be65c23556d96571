"""What takes long to load, and memory."""

HEAVY = ("aioboto3", "clickhouse_connect", "nats", "numpy", "psycopg", "pyarrow", "pyiceberg")
