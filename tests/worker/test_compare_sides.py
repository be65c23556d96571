"""The sides of a comparison, as people type them."""

import pytest

from activities.core.faults import BadRequest
from worker.compare_sides import SideSpec, parse_side


@pytest.mark.parametrize(
    ("text", "kind", "environment", "network", "table", "root"),
    [
        ("staging:mainnet.blocks", "table", "staging", "mainnet", "blocks", ""),
        ("staging:", "tree", "staging", "", "", ""),
        ("s3://bucket", "tree", "local", "", "", "bucket"),
        ("s3://bucket/some/where/", "tree", "local", "", "", "bucket/some/where"),
        ("https://data.example.org", "web", "local", "", "", "https://data.example.org"),
        ("http://127.0.0.1:8080/lake/", "web", "local", "", "", "http://127.0.0.1:8080/lake"),
    ],
)
def test_a_side_is_understood(text, kind, environment, network, table, root):
    assert parse_side(text, "local") == SideSpec(text, kind, environment, network, table, root)


@pytest.mark.parametrize("text", ["", ":", "mainnet.blocks", "staging:blocks", "staging:.blocks", "s3://", "ftp://a/b"])
def test_a_side_of_no_known_form_is_refused_with_the_forms(text):
    with pytest.raises(BadRequest, match=r"<environment>:<network>\.<table> for an Iceberg table"):
        parse_side(text, "local")
