"""Every code of every small format equals the reference library's value; no bit is lost."""

import ml_dtypes
import numpy as np
import pytest

from crawl.dtypes import DTYPES, decode, raw
from crawl.errors import UnsupportedDtypeError

_REFERENCE = {
    "F4": (ml_dtypes.float4_e2m1fn, 4),
    "F6_E2M3": (ml_dtypes.float6_e2m3fn, 6),
    "F6_E3M2": (ml_dtypes.float6_e3m2fn, 6),
    "F8_E4M3": (ml_dtypes.float8_e4m3fn, 8),
    "F8_E4M3FNUZ": (ml_dtypes.float8_e4m3fnuz, 8),
    "F8_E5M2": (ml_dtypes.float8_e5m2, 8),
    "F8_E5M2FNUZ": (ml_dtypes.float8_e5m2fnuz, 8),
    "F8_E8M0": (ml_dtypes.float8_e8m0fnu, 8),
    "BF16": (ml_dtypes.bfloat16, 16),
    "F16": (np.float16, 16),
}
_NATIVE = {"F32": "f4", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8", "U8": "u1", "U16": "u2",
           "U32": "u4", "U64": "u8"}  # fmt: skip
_FROM_THE_FORMAT = (
    "BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I16 U16 F16 BF16 I32 U32 F32 C64 "
    "F64 I64 U64"
)


def _packed(codes, bits):
    """Pack codes bit by bit, lowest bit first."""
    stream = ((codes[:, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(-1)
    return np.packbits(stream, bitorder="little").tobytes()


def test_the_table_is_that_of_the_format_and_sorted():
    assert set(DTYPES) == set(_FROM_THE_FORMAT.split())
    assert list(DTYPES) == sorted(DTYPES)
    assert all(name == dtype.name for name, dtype in DTYPES.items())


@pytest.mark.parametrize("name", sorted(_REFERENCE))
def test_every_code_equals_the_reference(name):
    kind, bits = _REFERENCE[name]
    codes = np.arange(1 << bits, dtype=np.uint16 if bits == 16 else np.uint8)
    data = codes.tobytes() if bits >= 8 else _packed(codes, bits)
    got = decode(data, DTYPES[name], (1 << bits,))
    expected = codes.view(kind).astype(np.float32)
    assert got.dtype == np.float32
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    finite = ~np.isnan(expected)
    assert np.array_equal(got[finite].view(np.uint32), expected[finite].view(np.uint32))


@pytest.mark.parametrize("name", sorted(_NATIVE))
def test_native_numbers_keep_their_value(name):
    kind = np.dtype(_NATIVE[name])
    edge = [0, 1] if kind.kind != "f" else [0.5, -1.5]
    values = np.array([*edge, *([np.iinfo(kind).max // 3] if kind.kind != "f" else [])], kind)
    got = decode(values.tobytes(), DTYPES[name], values.shape)
    wide = name in {"F64", "I64", "U64", "I32", "U32"}
    assert got.dtype == (np.float64 if wide else np.float32)
    assert np.array_equal(got, values.astype(got.dtype))


def test_booleans_are_zero_and_one():
    assert decode(b"\0\1\1", DTYPES["BOOL"], (3,)).tolist() == [0.0, 1.0, 1.0]


def test_arrays_are_read_only_and_shaped():
    for shape, n in (((2, 3), 6), ((), 1), ((0, 4), 0)):
        got = decode(bytes(2 * n), DTYPES["BF16"], shape)
        assert got.shape == shape
        assert not got.flags.writeable
        assert not raw(bytearray(2 * n), DTYPES["BF16"], shape).flags.writeable


def test_raw_gives_bits():
    assert raw(b"\x80\x3f", DTYPES["BF16"], (1,)).tolist() == [0x3F80]
    assert raw(b"\x21", DTYPES["F4"], (2,)).tolist() == [0x21]


def test_complex_numbers_are_refused_only_when_decoded():
    assert raw(bytes(8), DTYPES["C64"], (1,)).dtype == np.complex64
    with pytest.raises(UnsupportedDtypeError, match="C64"):
        decode(bytes(8), DTYPES["C64"], (1,))


@pytest.mark.parametrize(("name", "n", "expected"), [("F4", 3, None), ("F4", 4, 2), ("F6_E2M3", 4, 3), ("F64", 3, 24)])
def test_bytes_of_elements(name, n, expected):
    assert DTYPES[name].n_bytes(n) == expected
