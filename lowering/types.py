"""Table of dtypes, with their names in torch, TorchScript, the torch dialect, StableHLO and numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import dtype as TorchDType


@dataclass(frozen=True)
class DType:
    """A dtype. name: in torch; script: in TorchScript IR; code: its int in op schemas; torch_mlir, hlo: MLIR element types."""

    name: str
    script: str
    code: int
    torch_mlir: str
    hlo: str
    numpy: str

    @property
    def torch(self) -> TorchDType:
        import torch  # imported here, so that checking a config does not need torch

        return getattr(torch, self.name)


DTYPES: dict[str, DType] = {row.name: row for row in (
    DType("uint8", "Byte", 0, "ui8", "ui8", "uint8"),
    DType("int8", "Char", 1, "si8", "i8", "int8"),
    DType("int16", "Short", 2, "si16", "i16", "int16"),
    DType("int32", "Int", 3, "si32", "i32", "int32"),
    DType("int64", "Long", 4, "si64", "i64", "int64"),
    DType("float16", "Half", 5, "f16", "f16", "float16"),
    DType("float32", "Float", 6, "f32", "f32", "float32"),
    DType("float64", "Double", 7, "f64", "f64", "float64"),
    DType("complex64", "ComplexFloat", 9, "complex<f32>", "complex<f32>", "complex64"),
    DType("complex128", "ComplexDouble", 10, "complex<f64>", "complex<f64>", "complex128"),
    DType("bool", "Bool", 11, "i1", "i1", "bool"),
    DType("bfloat16", "BFloat16", 15, "bf16", "bf16", "bfloat16"),
    DType("float8_e5m2", "Float8_e5m2", 23, "f8E5M2", "f8E5M2", "float8_e5m2"),
    DType("float8_e4m3fn", "Float8_e4m3fn", 24, "f8E4M3FN", "f8E4M3FN", "float8_e4m3fn"),
    DType("float8_e5m2fnuz", "Float8_e5m2fnuz", 25, "f8E5M2FNUZ", "f8E5M2FNUZ", "float8_e5m2fnuz"),
    DType("float8_e4m3fnuz", "Float8_e4m3fnuz", 26, "f8E4M3FNUZ", "f8E4M3FNUZ", "float8_e4m3fnuz"),
    DType("uint16", "UInt16", 27, "ui16", "ui16", "uint16"),
    DType("uint32", "UInt32", 28, "ui32", "ui32", "uint32"),
    DType("uint64", "UInt64", 29, "ui64", "ui64", "uint64"),
    DType("float8_e8m0fnu", "Float8_e8m0fnu", 44, "f8E8M0FNU", "f8E8M0FNU", "float8_e8m0fnu"),
)}


# How to hand over what torch has a dtype for and no arithmetic: int1 to int7, uint1 to uint7, float4_e2m1fn_x2.
UNPACK = "keep elements of fewer than 8 bits in uint8, and unpack them by shifts and masks"

# Python numbers as inputs, by torch's names for dynamic ones. Each is a 0-d tensor of this dtype at the MLIR levels.
NUMBERS = {"SymInt": "int64", "SymFloat": "float64", "SymBool": "bool"}


def find_row(dtype: TorchDType) -> DType:
    """Return the row of a torch dtype. Raises KeyError if there is none."""
    if dtype_name(dtype) not in DTYPES:
        raise KeyError(f"lowering.types.DTYPES has no row for {dtype}")
    return DTYPES[dtype_name(dtype)]


def dtype_name(dtype: TorchDType) -> str:
    return str(dtype).removeprefix("torch.")
