"""What was promised is not skipped."""

import pytest

from support.tools import tool


def test_what_is_missing_is_skipped_only_where_nobody_promised_it(monkeypatch):
    monkeypatch.delenv("TEST_TOOLS", raising=False)
    assert tool("no-such-program") is None
    monkeypatch.setenv("TEST_TOOLS", "sh no-such-program")
    assert str(tool("sh")).endswith("/sh")
    with pytest.raises(RuntimeError, match="promises no-such-program"):
        tool("no-such-program")
