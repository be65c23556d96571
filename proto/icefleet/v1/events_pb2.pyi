import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SnapshotCommitted(_message.Message):
    __slots__ = ("environment", "table", "network", "source_table", "table_uuid", "snapshot_id", "parent_snapshot_id", "sequence_number", "operation", "committed_at", "partitions", "partitions_omitted", "added", "files_removed", "traceparent", "changelog", "mirror")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TABLE_FIELD_NUMBER: _ClassVar[int]
    TABLE_UUID_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_AT_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_OMITTED_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    FILES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    CHANGELOG_FIELD_NUMBER: _ClassVar[int]
    MIRROR_FIELD_NUMBER: _ClassVar[int]
    environment: str
    table: str
    network: str
    source_table: str
    table_uuid: str
    snapshot_id: int
    parent_snapshot_id: int
    sequence_number: int
    operation: str
    committed_at: _timestamp_pb2.Timestamp
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    partitions_omitted: int
    added: Totals
    files_removed: int
    traceparent: str
    changelog: Changelog
    mirror: Mirror
    def __init__(self, environment: _Optional[str] = ..., table: _Optional[str] = ..., network: _Optional[str] = ..., source_table: _Optional[str] = ..., table_uuid: _Optional[str] = ..., snapshot_id: _Optional[int] = ..., parent_snapshot_id: _Optional[int] = ..., sequence_number: _Optional[int] = ..., operation: _Optional[str] = ..., committed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., partitions: _Optional[_Iterable[_Union[Partition, _Mapping]]] = ..., partitions_omitted: _Optional[int] = ..., added: _Optional[_Union[Totals, _Mapping]] = ..., files_removed: _Optional[int] = ..., traceparent: _Optional[str] = ..., changelog: _Optional[_Union[Changelog, _Mapping]] = ..., mirror: _Optional[_Union[Mirror, _Mapping]] = ...) -> None: ...

class Changelog(_message.Message):
    __slots__ = ("pipeline", "source_table", "first_sequence", "last_sequence", "events", "position")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TABLE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    source_table: str
    first_sequence: str
    last_sequence: str
    events: int
    position: int
    def __init__(self, pipeline: _Optional[str] = ..., source_table: _Optional[str] = ..., first_sequence: _Optional[str] = ..., last_sequence: _Optional[str] = ..., events: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Mirror(_message.Message):
    __slots__ = ("changelog", "changelog_snapshot_id", "last_sequence", "upserted", "deleted")
    CHANGELOG_FIELD_NUMBER: _ClassVar[int]
    CHANGELOG_SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    UPSERTED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    changelog: str
    changelog_snapshot_id: int
    last_sequence: str
    upserted: int
    deleted: int
    def __init__(self, changelog: _Optional[str] = ..., changelog_snapshot_id: _Optional[int] = ..., last_sequence: _Optional[str] = ..., upserted: _Optional[int] = ..., deleted: _Optional[int] = ...) -> None: ...

class Partition(_message.Message):
    __slots__ = ("partition", "rows", "bytes", "object_key", "public_url", "replaced")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OBJECT_KEY_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_URL_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    partition: str
    rows: int
    bytes: int
    object_key: str
    public_url: str
    replaced: bool
    def __init__(self, partition: _Optional[str] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ..., object_key: _Optional[str] = ..., public_url: _Optional[str] = ..., replaced: _Optional[bool] = ...) -> None: ...

class Totals(_message.Message):
    __slots__ = ("files", "rows", "bytes")
    FILES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    files: int
    rows: int
    bytes: int
    def __init__(self, files: _Optional[int] = ..., rows: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("environment", "table", "network", "source_table", "kind", "found_at", "partitions", "partitions_omitted")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TABLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FOUND_AT_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_OMITTED_FIELD_NUMBER: _ClassVar[int]
    environment: str
    table: str
    network: str
    source_table: str
    kind: str
    found_at: _timestamp_pb2.Timestamp
    partitions: _containers.RepeatedCompositeFieldContainer[FoundPartition]
    partitions_omitted: int
    def __init__(self, environment: _Optional[str] = ..., table: _Optional[str] = ..., network: _Optional[str] = ..., source_table: _Optional[str] = ..., kind: _Optional[str] = ..., found_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., partitions: _Optional[_Iterable[_Union[FoundPartition, _Mapping]]] = ..., partitions_omitted: _Optional[int] = ...) -> None: ...

class FoundPartition(_message.Message):
    __slots__ = ("partition", "rows", "source_rows", "detail")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ROWS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    partition: str
    rows: int
    source_rows: int
    detail: str
    def __init__(self, partition: _Optional[str] = ..., rows: _Optional[int] = ..., source_rows: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...
