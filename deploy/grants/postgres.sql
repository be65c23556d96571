-- PostgreSQL, as an administrator of the databases that `cdc` of environments.yaml names. Here `shop` is the database and
-- `shop_owner` the role that owns its tables; set passwords with \password, which puts them into no history.

-- At the source: reads the log, publishes tables that it owns by membership, and keeps what it needs in a schema of its own.
CREATE ROLE icefleet_capture LOGIN REPLICATION;
GRANT shop_owner TO icefleet_capture;
GRANT CONNECT, CREATE ON DATABASE shop TO icefleet_capture;

-- At the buffer, which may be the same database or another one: makes its schema, and sees nothing else.
CREATE ROLE icefleet_buffer LOGIN;
GRANT CONNECT, CREATE ON DATABASE shop TO icefleet_buffer;
