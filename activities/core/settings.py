"""Settings sent with every query: a user's profile must not shorten a result or reshape a file.

Sent by hand or by a profile, each of these can change what a query returns without an error. A server refuses a
setting that it does not know, so those that ClickHouse 24.8 lacks are listed in NEWER_SETTINGS: leave them out when
`system.settings` has no row for them; a server that lacks one behaves as if it had the value given here.
"""

from collections.abc import Mapping
from types import MappingProxyType

_OVERFLOW_MODES = (
    "distinct_overflow_mode",
    "group_by_overflow_mode",
    "join_overflow_mode",
    "read_overflow_mode",
    "read_overflow_mode_leaf",
    "result_overflow_mode",
    "set_overflow_mode",
    "sort_overflow_mode",
    "timeout_overflow_mode",
    "timeout_overflow_mode_leaf",
    "transfer_overflow_mode",
)

_WHOLE: dict[str, str | int] = {
    # A profile made for people at a console: cuts the result, or refuses it by its size.
    "limit": 0,
    "offset": 0,
    "max_result_rows": 0,
    "max_result_bytes": 0,
    "extremes": 0,
    "partial_result_on_first_cancel": 0,
    # Hidden filters.
    "additional_table_filters": "{}",
    "additional_result_filter": "",
    # Rows of deleted or patched parts, and parts too new for a warm cache.
    "apply_deleted_mask": 1,
    "apply_patch_parts": 1,
    "ignore_cold_parts_seconds": 0,
    # Shards that are down, replicas that lag (300 s is the server's own default; 0 would allow any lag).
    "skip_unavailable_shards": 0,
    "fallback_to_stale_replicas_for_distributed_queries": 0,
    "max_replica_delay_for_distributed_queries": 300,
    # Trust in where rows were sharded: false after resharding, or when writers chose the shard.
    "optimize_skip_unused_shards": 0,
    "force_optimize_skip_unused_shards": 0,
    "optimize_distributed_group_by_sharding_key": 0,
    # Unmerged groups would come back once per shard.
    "distributed_group_by_no_merge": 0,
    # One replica reads a shard: splitting by sampling key or custom key can lose or repeat rows, and FINAL breaks.
    "max_parallel_replicas": 1,
    "allow_experimental_parallel_reading_from_replicas": 0,
    "parallel_replicas_count": 0,
    "parallel_replica_offset": 0,
    # Yesterday's answer.
    "use_query_cache": 0,
}

_FINAL: dict[str, str | int] = {
    # Queries say FINAL themselves; forced on, it would make every survey slow and its raw counts wrong.
    "final": 0,
    # Filtering or skipping before rows collapse brings back versions that had been replaced.
    "optimize_move_to_prewhere_if_final": 0,
    "use_skip_indexes_if_final": 0,
    "do_not_merge_across_partitions_select_final": 0,
}

_MEANING: dict[str, str | int] = {
    # A cast must not hide the column of the same name from WHERE and ORDER BY, and so from the primary key.
    "prefer_column_name_to_alias": 1,
    "optimize_read_in_order": 1,
    # count() of nothing is 0, in one row.
    "aggregate_functions_null_for_empty": 0,
    "empty_result_for_aggregation_by_empty_set": 0,
    # Casts have the type that they name, and overflow is an error.
    "cast_keep_nullable": 0,
    "cast_ipv4_ipv6_default_on_conversion_error": 0,
    "decimal_check_overflow": 1,
    # The blank of a redacted column has its full type, such as LowCardinality(IPv6), which the source allowed itself.
    "allow_suspicious_low_cardinality_types": 1,
    "date_time_overflow_behavior": "throw",
    # The server's own zone, with which sorting and partition keys were built; bounds say UTC themselves.
    "session_timezone": "",
    # What toString makes of values inside JSON, Variant and Dynamic.
    "date_time_output_format": "simple",
    "bool_true_representation": "true",
    "bool_false_representation": "false",
    "output_format_decimal_trailing_zeros": 0,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_64bit_floats": 0,
    "output_format_json_quote_decimals": 0,
    "output_format_json_escape_forward_slashes": 1,
    # A NaN inside JSON is "nan", not null.
    "output_format_json_quote_denormals": 1,
}

_PARQUET: dict[str, str | int] = {
    # What the public files are: zstd, format 2.6, bloom filters, strings as UTF-8, FixedString as fixed bytes.
    "output_format_parquet_version": "2.6",
    "output_format_parquet_compression_method": "zstd",
    "output_format_compression_level": 3,
    "output_format_parquet_string_as_string": 1,
    "output_format_parquet_fixed_string_as_fixed_byte_array": 1,
    "output_format_parquet_datetime_as_uint32": 0,
    "output_format_parquet_date_as_uint16": 0,
    "output_format_parquet_enum_as_byte_array": 1,
    "output_format_parquet_wide_integer_as_decimal": 0,
    "output_format_parquet_compliant_nested_types": 1,
    "output_format_parquet_geometadata": 0,
    "output_format_parquet_write_page_index": 1,
    "output_format_parquet_write_checksums": 1,
    "output_format_parquet_write_bloom_filter": 1,
    # Bounded memory on the server, and row groups that readers can skip.
    "output_format_parquet_row_group_size": 1_000_000,
    "output_format_parquet_row_group_size_bytes": 512 * 1024 * 1024,
    "output_format_parquet_data_page_size": 1024 * 1024,
    "output_format_parquet_use_custom_encoder": 1,
    "output_format_parquet_parallel_encoding": 1,
}

PINNED_SETTINGS: Mapping[str, str | int] = MappingProxyType(
    {**dict.fromkeys(_OVERFLOW_MODES, "throw"), **_WHOLE, **_FINAL, **_MEANING, **_PARQUET}
)

ARROW_SETTINGS: Mapping[str, str | int] = MappingProxyType(
    {
        "output_format_arrow_string_as_string": 1,
        "output_format_arrow_fixed_string_as_fixed_byte_array": 1,
        "output_format_arrow_low_cardinality_as_dictionary": 0,
        "output_format_arrow_compression_method": "lz4_frame",
    }
)
"""What is sent beside the pinned settings when a result is asked for as Arrow; no part of an object's recipe."""

NEWER_SETTINGS: frozenset[str] = frozenset(
    {
        "apply_patch_parts",
        "output_format_parquet_date_as_uint16",
        "output_format_parquet_datetime_as_uint32",
        "output_format_parquet_enum_as_byte_array",
        "output_format_parquet_geometadata",
        "output_format_parquet_wide_integer_as_decimal",
        "output_format_parquet_write_bloom_filter",
        "output_format_parquet_write_checksums",
    }
)
"""Pinned settings that came after ClickHouse 24.8."""
