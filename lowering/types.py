"""The one table of dtypes: torch's, TorchScript's, the torch dialect's, StableHLO's and numpy's names for each."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class DType:
    """`script`: the type's name in TorchScript IR; `code`: the int that stands for it in schemas; `torch_mlir`/`hlo`: element types."""

    torch: torch.dtype
    script: str
    code: int
    torch_mlir: str
    hlo: str
    numpy: str


def _row(dtype: torch.dtype, script: str, code: int, torch_mlir: str, hlo: str, numpy: str) -> tuple[str, DType]:
    return str(dtype).removeprefix("torch."), DType(dtype, script, code, torch_mlir, hlo, numpy)


DTYPES: dict[str, DType] = dict([
    _row(torch.uint8, "Byte", 0, "ui8", "ui8", "uint8"),
    _row(torch.int8, "Char", 1, "si8", "i8", "int8"),
    _row(torch.int16, "Short", 2, "si16", "i16", "int16"),
    _row(torch.int32, "Int", 3, "si32", "i32", "int32"),
    _row(torch.int64, "Long", 4, "si64", "i64", "int64"),
    _row(torch.float16, "Half", 5, "f16", "f16", "float16"),
    _row(torch.float32, "Float", 6, "f32", "f32", "float32"),
    _row(torch.float64, "Double", 7, "f64", "f64", "float64"),
    _row(torch.complex64, "ComplexFloat", 9, "complex<f32>", "complex<f32>", "complex64"),
    _row(torch.complex128, "ComplexDouble", 10, "complex<f64>", "complex<f64>", "complex128"),
    _row(torch.bool, "Bool", 11, "i1", "i1", "bool"),
    _row(torch.bfloat16, "BFloat16", 15, "bf16", "bf16", "bfloat16"),
    _row(torch.float8_e5m2, "Float8_e5m2", 23, "f8E5M2", "f8E5M2", "float8_e5m2"),
    _row(torch.float8_e4m3fn, "Float8_e4m3fn", 24, "f8E4M3FN", "f8E4M3FN", "float8_e4m3fn"),
])

_BY_TORCH = {row.torch: row for row in DTYPES.values()}


def of(dtype: torch.dtype) -> DType:
    """The row of a torch dtype; KeyError names this table."""
    if dtype not in _BY_TORCH:
        raise KeyError(f"lowering.types.DTYPES has no row for {dtype}")
    return _BY_TORCH[dtype]


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
