"""The matcher itself: each kind of directive holds, and each can fail."""

from __future__ import annotations

import pytest

from tests.filecheck.matcher import check

TEXT = "%1 = one(%0)\n%2 = two(%1, %1)\nreturn %2"


@pytest.mark.parametrize("spec", [
    "# CHECK: one\n# CHECK: return",
    "# CHECK: [[X:%\\d+]] = one\n# CHECK-NEXT: two([[X]], [[X]])",
    "# CHECK: two\n# CHECK-SAME: %1)\n# CHECK-NOT: one",
    "# CHECK: {{%\\d}}   =   two",
])
def test_holds(spec: str) -> None:
    check(TEXT, spec)


@pytest.mark.parametrize("spec", [
    "# CHECK: return\n# CHECK: one",
    "# CHECK: one\n# CHECK-NEXT: return",
    "# CHECK: one\n# CHECK-SAME: two",
    "# CHECK: one\n# CHECK-NOT: two\n# CHECK: return",
    "# CHECK-NOT: return",
    "# CHECK: [[X:%\\d+]] = two\n# CHECK-NEXT: one([[X]])",
])
def test_fails(spec: str) -> None:
    with pytest.raises(AssertionError, match="case:"):
        check(TEXT, spec)


def test_a_case_without_checks_is_refused() -> None:
    with pytest.raises(AssertionError, match="No check strings found"):
        check(TEXT, "nothing")
