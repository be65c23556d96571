"""What changelogs are called."""

import pytest

from activities.core.changelogs import ChangelogRules, changelog_name
from activities.core.faults import BadConfig


def test_a_changelog_is_called_as_the_template_says():
    assert changelog_name(ChangelogRules(), "public", "orders") == "cdc.public_orders_changelog"
    assert changelog_name(ChangelogRules("lake", "{table}_log"), "public", "orders") == "lake.orders_log"
    lower = ChangelogRules("lake", "{schema}_{table:lower}")
    assert changelog_name(lower, "Shop", "OrderÄ") == "lake.Shop_orderä"


@pytest.mark.parametrize("table", ["a.b", "Order Details", "a/b", "a\\b", "a*", "a>"])
def test_a_name_that_no_catalog_takes_is_refused_with_the_way_out(table):
    with pytest.raises(BadConfig, match=r"is no name for an Iceberg table.*rename the table at the source") as refused:
        changelog_name(ChangelogRules(), "public", table)
    assert f"source table public.{table}" in str(refused.value)
