"""Number formats: how many bits an element has, and how stored bits become floats.

Decoding is done here with numpy alone, before any kernel sees the data: the numpy reader of the safetensors library
has no FP8, FP6 or FP4, and reads BF16 only when ml_dtypes happens to be imported. `ml_dtypes` is used for the
256-entry tables of the 8-bit formats: a table look-up is about ten times faster than a cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from crawl.errors import UnsupportedDtypeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

RawArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class DType:
    """One stored number format.

    Attributes
    ----------
    name : str
        As safetensors spells it, e.g. ``BF16``.
    bits : int
        Bits of one element.
    raw : str
        Little-endian numpy type of the stored bits; ``|u1`` bytes where elements are packed.
    decoded : str
        ``<f4``, ``<f8``, or empty when no real float array can be made.
    """

    name: str
    bits: int
    raw: str
    decoded: str
    is_float: bool

    def __str__(self) -> str:
        return self.name

    def n_bytes(self, n_elements: int) -> int | None:
        """Return the bytes of `n_elements`, or None when they do not end on a byte."""
        bits = n_elements * self.bits
        return None if bits % 8 else bits // 8


def _table() -> dict[str, DType]:
    rows = (
        # name, bits, stored as, decoded to, is a floating-point format
        ("BF16", 16, "<u2", "<f4", True),
        ("BOOL", 8, "|u1", "<f4", False),
        ("C64", 64, "<c8", "", False),
        ("F16", 16, "<f2", "<f4", True),
        ("F32", 32, "<f4", "<f4", True),
        ("F4", 4, "|u1", "<f4", True),
        ("F64", 64, "<f8", "<f8", True),
        ("F6_E2M3", 6, "|u1", "<f4", True),
        ("F6_E3M2", 6, "|u1", "<f4", True),
        ("F8_E4M3", 8, "|u1", "<f4", True),
        ("F8_E4M3FNUZ", 8, "|u1", "<f4", True),
        ("F8_E5M2", 8, "|u1", "<f4", True),
        ("F8_E5M2FNUZ", 8, "|u1", "<f4", True),
        ("F8_E8M0", 8, "|u1", "<f4", True),
        ("I16", 16, "<i2", "<f4", False),
        ("I32", 32, "<i4", "<f8", False),  # 32-bit integers do not fit the 24 bits of a float32
        ("I64", 64, "<i8", "<f8", False),
        ("I8", 8, "|i1", "<f4", False),
        ("U16", 16, "<u2", "<f4", False),
        ("U32", 32, "<u4", "<f8", False),
        ("U64", 64, "<u8", "<f8", False),
        ("U8", 8, "|u1", "<f4", False),
    )
    return {row[0]: DType(*row) for row in rows}


DTYPES: Mapping[str, DType] = _table()

# One byte a code: the 8-bit formats, and the 4- and 6-bit formats once they are unpacked.
_CODES: Mapping[str, Any] = {
    "F4": ml_dtypes.float4_e2m1fn,
    "F6_E2M3": ml_dtypes.float6_e2m3fn,
    "F6_E3M2": ml_dtypes.float6_e3m2fn,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


@cache
def _code_table(name: str, bits: int) -> npt.NDArray[np.float32]:
    codes = np.arange(1 << bits, dtype=np.uint8)
    table: npt.NDArray[np.float32] = codes.view(_CODES[name]).astype(np.float32)
    return table


def _unpack4(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    # Two codes a byte, the first in the low half, as the frameworks that write F4 do.
    return np.stack([packed & 0x0F, packed >> 4], axis=-1).reshape(-1)


def _unpack6(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    # A little-endian bit stream: three bytes hold four codes, the first in the lowest six bits.
    whole = np.concatenate([packed, np.zeros(-len(packed) % 3, np.uint8)]).reshape(-1, 3).astype(np.uint32)
    word = whole[:, 0] | whole[:, 1] << 8 | whole[:, 2] << 16
    return np.stack([(word >> shift) & 0x3F for shift in (0, 6, 12, 18)], axis=-1).reshape(-1).astype(np.uint8)


def raw(data: bytes | bytearray | memoryview, dtype: DType, shape: tuple[int, ...]) -> RawArray:
    """Return stored bits as an array, without a copy.

    Parameters
    ----------
    data : bytes-like
        Exactly the bytes of the array, little-endian, row-major.
    dtype : DType
    shape : tuple of int
        Logical shape; packed formats (below eight bits) come back as a flat uint8 vector instead.

    Returns
    -------
    ndarray
        Read-only: BF16 as uint16, the 8-bit floats as uint8, everything else in its own type.
    """
    array = np.frombuffer(data, dtype=dtype.raw)
    out = array if dtype.bits < 8 else array.reshape(shape)
    out.flags.writeable = False
    return out


def decode(data: bytes | bytearray | memoryview, dtype: DType, shape: tuple[int, ...]) -> FloatArray:
    """Turn stored bytes into floats.

    Parameters
    ----------
    data : bytes-like
        Exactly the bytes of the array, little-endian, row-major.
    dtype : DType
    shape : tuple of int

    Returns
    -------
    ndarray of float32
        Of `shape`, C-contiguous, read-only; float64 for F64 and for integers of 32 bits and more. Every value is exact
        except 64-bit integers beyond 2**53.

    Raises
    ------
    UnsupportedDtypeError
        The format is complex.
    """
    bits = raw(data, dtype, shape)
    return decode_raw(bits, dtype, shape)


def decode_raw(bits: RawArray, dtype: DType, shape: tuple[int, ...]) -> FloatArray:
    """Turn what `raw` returned into floats; see `decode`."""
    if not dtype.decoded:
        raise UnsupportedDtypeError(
            f"{dtype.name} numbers have no real value", hint="read the stored bits instead (read_raw)"
        )
    count = int(np.prod(shape, dtype=np.int64))
    if dtype.name == "BF16":
        out = (bits.astype("<u4") << np.uint32(16)).view("<f4")
    elif dtype.name in _CODES:
        codes = {4: _unpack4, 6: _unpack6}.get(dtype.bits, np.ravel)(bits)
        out = _code_table(dtype.name, dtype.bits)[codes[:count]]
    elif dtype.name == "BOOL":
        out = (bits != 0).astype("<f4")
    else:
        out = bits.astype(dtype.decoded, copy=False)
    out = np.ascontiguousarray(out).reshape(shape)
    out.flags.writeable = False
    return out
