"""Every dtype of the table passes all levels, and conversions between them are eager's; others are refused by name."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

import shapeline
from lowering import types
from lowering.errors import Unsupported

NARROW = ("uint8", "int8", "int16", "uint16", "uint32", "uint64")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
SCALES = "float8_e8m0fnu"
VALUES = torch.tensor([-1.5, -2.0, 200.0, 300.0, -300.0, 70000.0, -70000.0, 0.5, 0.0, 1.5, 2.5, -0.7, 448.0, 464.0, -57344.0, 1e-9])


class Conversions(torch.nn.Module):
    """Floats to each dtype and back, and a stored tensor of each dtype to floats."""

    def __init__(self) -> None:
        super().__init__()
        for name in (*NARROW, *FLOAT8, SCALES):
            self.register_buffer(name, torch.arange(1, 17, dtype=torch.float32).to(types.DTYPES[name].torch))

    def forward(self, x: torch.Tensor, bytes_: torch.Tensor) -> dict[str, torch.Tensor]:
        made = {name: x.to(types.DTYPES[name].torch) for name in (*NARROW, *FLOAT8)}
        back = {f"{name}_back": value.to(torch.float32) for name, value in made.items()}
        stored = {f"{name}_stored": x * getattr(self, name).to(torch.float32) for name in (*NARROW, *FLOAT8, SCALES)}
        return made | back | stored | {"bytes": bytes_.to(torch.int64) + 1, "wide": bytes_.to(torch.int64).to(torch.uint32)}


def test_every_dtype_passes_all_levels_and_converts_as_eager_does() -> None:
    module, n = Conversions(), Dim("n", max=100)
    given = VALUES.repeat(3, 1), torch.randint(0, 60000, (3, 4)).to(torch.uint16)
    lowered = shapeline.lower(module, given, dynamic_shapes=({0: n}, {0: n}))
    lowered.verify(points=2)
    for name, want in module(*given).items():
        got = lowered(*given)[name]
        assert got.dtype is want.dtype
        torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=0, equal_nan=True, msg=name)


def test_dtypes_that_no_level_holds_are_refused_by_name() -> None:
    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.zeros(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    class Scales(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.float8_e8m0fnu)  # the line

    class Unknown(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to(torch.uint8).view(torch.uint4).view(torch.uint8)  # the line

    for module, said in ((Unknown(), r"at .*test_dtypes.py:\d+.*gives torch\.uint4, which no level can hold"),
                         (Packed(), r"weight 'weight': is torch\.float4_e2m1fn_x2, which no level can hold.*uint8"),
                         (Scales(), r"at .*test_dtypes.py:\d+.*zero, which XLA flushes")):  # fmt: skip
        with pytest.raises(Unsupported, match=said):
            shapeline.lower(module, (torch.randn(5, 4),), dynamic_shapes=({0: Dim("n", max=100)},))
