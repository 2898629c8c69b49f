"""The fake kernel of `fused::keep_rows`, whose result size only the mask's data tells."""

from __future__ import annotations

import torch


@torch.library.register_fake("fused::keep_rows")
def keep_rows(rows: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return rows.new_empty(count, rows.shape[1]), mask.new_empty(count, dtype=torch.int64)
