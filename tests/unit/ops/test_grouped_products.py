"""Products of groups equal eager's, in each form that `torch._grouped_mm` has."""

from __future__ import annotations

import pytest
import torch

from lowering.ops.grouped_products import grouped_mm

FORMS = {
    "rows": ((16, 8), (3, 8, 16), [4, 4, 16]), "rows of no group": ((16, 8), (3, 8, 16), [0, 4, 12]),
    "columns": ((3, 8, 16), (16, 16), [4, 8, 16]), "contracted": ((8, 16), (16, 24), [0, 8, 16]), "batch": ((3, 8, 16), (3, 16, 8), None),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_forms_equal_eagers(form: str, dtype: torch.dtype) -> None:
    one, other, ends = FORMS[form]
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=generator).to(dtype) for shape in (one, other))
    offs = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    made, eager = grouped_mm(first, second, offs), torch._grouped_mm(first, second, offs=offs)
    rows = 12 if form == "rows of no group" else len(made)  # eager leaves these as they are in memory
    torch.testing.assert_close(made[:rows], eager[:rows])
    assert not made[rows:].any()
