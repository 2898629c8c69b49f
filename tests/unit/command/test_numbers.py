"""Numbers of options that no command can use are refused as such."""

from __future__ import annotations

import pytest

from flows.__main__ import main


@pytest.mark.parametrize(("arguments", "words"), [
    (["prune", "--days", "nan"], "'nan' is not a number from 0 to 36500"),
    (["prune", "--days", "1e18"], "'1e18' is not a number from 0 to 36500"),
    (["prune", "--days", "-5"], "'-5' is not a number"),
    (["prune", "--runs", "-1"], "'-1' is not a whole number from 0"),
    (["prune", "--ir-runs", "two"], "'two' is not a whole number"),
    (["cache", "gc", "--max-bytes", "1G", "--idle", "nan"], "'nan' is not a number from 0"),
    (["server", "--port", "70000"], "'70000' is not a whole number from 1 to 65535"),
    (["server", "--keep-days", "inf"], "'inf' is not a number from 1 to 3650"),
    (["probe", "model=mlp", "--symbol", "batch", "--limit", "99999999999"], "'99999999999' is not a whole number from 1 to 2147483647"),
    (["bisect", "x", "--good", "a", "--bad", "b", "--by", "seconds", "--limit", "inf"], "'inf' is not a number"),
])
def test_a_number_out_of_range_is_a_usage_error(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in " ".join(capsys.readouterr().err.split())
