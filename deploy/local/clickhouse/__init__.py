"""The ClickHouse engine behind ClickHouse's HTTP interface, as a process of its own."""

import os

# The engine reads its time zone while it is being imported; every time in this project is UTC.
os.environ["TZ"] = "UTC"
