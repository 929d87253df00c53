"""docs/instructgpt.md names tests; each must exist, so that no row is only a claim."""

import pathlib
import re

TESTS = pathlib.Path(__file__).resolve().parent
TABLE = TESTS.parent / "docs/instructgpt.md"


def test_every_row_names_a_test_and_every_named_test_exists():
    defined = {
        (path.name, name)
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 40
    for row in rows:
        named = re.findall(r"(test_\w+\.py)::(test_\w+)", row)
        assert named or row.startswith("| paper |"), row
        assert set(named) <= defined, set(named) - defined
