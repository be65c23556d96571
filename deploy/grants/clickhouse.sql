-- ClickHouse, as an administrator of each cluster that environments.yaml names. `default` is the database of the tables.
CREATE ROLE icefleet_export;
GRANT SELECT ON default.* TO icefleet_export;
-- What tables there are and what may be asked of the server: plans, `icefleet config check --source`.
GRANT SELECT ON system.tables TO icefleet_export;
GRANT SELECT ON system.columns TO icefleet_export;
GRANT SELECT ON system.settings TO icefleet_export;
GRANT SELECT ON system.server_settings TO icefleet_export;
-- Progress and ends of its own queries. A user ends its own queries without a right to KILL QUERY.
GRANT SELECT ON system.processes TO icefleet_export;
GRANT SELECT ON system.query_log TO icefleet_export;

-- Bounds that hold whatever a client asks for. Not `readonly = 1`: settings of each query are pinned by icefleet.
CREATE SETTINGS PROFILE icefleet_export SETTINGS readonly = 2, max_memory_usage = 17179869184 MAX 17179869184,
    max_execution_time = 7200 MAX 7200, max_threads = 8 MAX 8 TO icefleet_export;

CREATE USER icefleet IDENTIFIED WITH sha256_password BY 'change me' DEFAULT ROLE icefleet_export;
GRANT icefleet_export TO icefleet;

-- Only for `export.transfer: direct`, where ClickHouse writes the files itself (docs/guides/transfer.md): not with `readonly`.
-- GRANT NAMED COLLECTION ON icefleet TO icefleet_export;
-- GRANT CREATE TEMPORARY TABLE, S3 ON *.* TO icefleet_export;
