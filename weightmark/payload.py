"""Payloads: bytes, a checksum, and the code word that spreads both over 512 signs."""

import binascii

import numpy as np

from stats.arrays import Float64Array
from stats.code import BITS, decode, encode

LENGTH = 14
"""Bytes of a payload."""


def codeword(payload: bytes) -> Float64Array:
    """Payload, zeros up to 14 bytes, and CRC-16/CCITT-FALSE, as 512 signs.

    Raises
    ------
    ValueError
        The payload is longer than 14 bytes.
    """
    if len(payload) > LENGTH:
        raise ValueError(f"a payload has at most {LENGTH} bytes, not {len(payload)}")
    body = payload.ljust(LENGTH, b"\0")
    bits = np.zeros(BITS, dtype=np.uint8)
    bits[: 8 * (LENGTH + 2)] = np.unpackbits(np.frombuffer(body + _check(body), dtype=np.uint8))
    return encode(bits)


def decoded(soft: Float64Array) -> bytes | None:
    """The payload that soft sums by symbol spell, zeros included; None where no code word or checksum fits.

    Parameters
    ----------
    soft : (512,) float64
        Larger where +1 is more plausible.
    """
    bits = decode(soft)
    if bits is None or bits[8 * (LENGTH + 2) :].any():
        return None
    read = np.packbits(bits[: 8 * (LENGTH + 2)]).tobytes()
    body, check = read[:LENGTH], read[LENGTH:]
    return body if check == _check(body) else None


def _check(body: bytes) -> bytes:
    return binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")
