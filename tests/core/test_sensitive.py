"""Which names and types may say who or where somebody is."""

import pytest

from activities.core.sensitive import HARMLESS, looks_sensitive, may_identify
from activities.core.tables import SENSITIVE


@pytest.mark.parametrize(
    "name",
    [
        *("meta_client_geo_city", "geoCity", "geocity", "geo.city", "GEO-CITY", "mygeocity2", "geocountrycode"),
        *("meta_client_geo_country_code", "geo_longitude_degrees", "latitude", "startLatitude", "nodelongitude"),
        *(
            "remote_peer_id",
            "peerid",
            "peerIDs",
            "peer_id_unique_key",
            "meta_client_id",
            "clientId2",
            "client_identifier",
        ),
    ],
)
def test_a_long_pattern_is_held_however_the_name_is_spelled(name):
    assert looks_sensitive(name)


@pytest.mark.parametrize(
    "name",
    [
        *("ip", "IP", "meta_client_ip", "ip_address", "client.ip", "clientIp", "clientIP", "clientIPs", "client_ips"),
        *("clientip", "srcip", "dst_ip4", "srcip4", "hostip", "peerip", "userip", "CLIENTIP", "realip", "xrealip"),
        *("ipaddr", "ipAddress", "ipv4", "IPv6", "ipv4addr", "ip6", "ips", "iphash", "ipport", "remoteIPAddress"),
        *("clientipaddress", "remoteipv6", "remoteipaddrs", "SourceIPHash", "HTTPIPPort", "TCPIPv4"),
    ],
)
def test_a_short_pattern_is_held_by_a_word_that_begins_or_ends_with_it(name):
    assert looks_sensitive(name)


@pytest.mark.parametrize(
    "name",
    [
        *("description", "recipient", "fee_recipient", "participation", "multiplier", "script", "subscription", "pipe"),
        *("cipher", "principal", "equipment", "type", "geography", "relations", "city", "country", "client_name"),
        *("from_address", "to_addr", "withdrawal_address", "contract_address"),
        *("gas_tip_cap", "gasTipCap", "GasTipCap", "tips", "zip_code", "skip", "ship_date", "chips", "gossip_topic"),
        *("eip", "eip1559", "is_eip_4844", "EIP7702", "ipfs_hash", "ipc_path", "membership", "relationship"),
    ],
)
def test_words_that_hold_a_short_pattern_by_chance_do_not_look_sensitive(name):
    assert not looks_sensitive(name)


def test_what_is_taken_for_harmless_ends_no_other_word():
    """Whole words only: otherwise `tip` would let `hostip` through."""
    assert all(looks_sensitive(f"host{word}") for word in HARMLESS if word.endswith("ip"))


def test_a_pattern_that_config_names_is_held_even_by_its_own_harmless_word():
    assert looks_sensitive("zip", ["zip"])
    assert looks_sensitive("zips", ["zip"])
    assert looks_sensitive("a_b", ["a_b"])
    assert looks_sensitive("userEmail", ["email"])
    assert looks_sensitive("devicemacaddr", ["mac"])
    assert not looks_sensitive("ip", ["email"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("clientip", "String"),
        ("where", "Array(Tuple(latitude Float64))"),
        ("where", "Tuple(a Map(String, Tuple(geocity String)))"),
        ("peer", "Tuple(id String, name String)"),
        ("geo", "Nested(name String, city String)"),
        ("addr", "Map(String, Array(Nullable(IPv6)))"),
        ("addr", "Variant(IPv4, String)"),
        ("addr", "Array(Variant(Array(IPv6), String))"),
        ("body", "JSON(`client.ip` String)"),
        ("body", "JSON(origin IPv6)"),
    ],
)
def test_a_column_may_identify_by_its_name_its_fields_and_its_types(name, kind):
    assert may_identify(name, kind, SENSITIVE)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("peer", "Tuple(name String, port UInt16)"),
        ("protocol", "Enum8('ip' = 1, 'IPv4' = 2)"),
        ("body", "JSON(description String)"),
        ("x", "Variant(String, UInt8)"),
    ],
)
def test_values_of_an_enum_and_plain_fields_identify_nobody(name, kind):
    assert not may_identify(name, kind, SENSITIVE)
