"""`dss`, dithered spread spectrum: each weight shifted by a keyed sign times the code symbol of its block.

Read blind from any slice, in the dtype the file has; the payload is coded over the whole model. Grown from the additive
marks of arXiv 2202.06091, whose symbols all lie on the same weights; the host's own part in each symbol is taken away when
the mark is written (improved spread spectrum, doi 10.1109/TSP.2003.809385).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from stats.arrays import Float64Array, IntVector
from stats.carriers import SYMBOLS, Carried, carried, scales
from stats.dither import GRIDS, rounded, shifted
from weightmark.axes import split_role
from weightmark.keys import Key
from weightmark.payload import LENGTH, codeword, decoded
from weightmark.reading import Reading, result
from weightmark.scheme import Caps, Strength
from weightmark.tails import log_sign_tail

BLOCK = 64
KINDS = ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up", "mlp.down")
TARGETS: Mapping[Strength, float] = {"low": 60.0, "default": 120.0, "high": 240.0}
INFORMED_CLIP = 8.0
SPARSE = 0.2
"""Above this share of exact zeros they are a pattern, and stay."""

FORMATS = {
    "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
}  # fmt: skip
"""Names of numpy's formats in safetensors headers: those that marks can be stored in."""

_PAYLOAD_SOFT = 3.0
"""Below this strength a symbol, blind sums read the payload: the part that took the host away acts as noise otherwise."""
_ROWS = 1 << 20
"""Weights looked at together."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The carriers of one matrix: signs, symbols and dither of any of its rows."""

    key: Key
    role: str
    columns: int

    def signs(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """One bit a weight, lowest first, (rows, bytes)."""
        return self._words("sign", 16 * -(-self.columns // 128), start, stop)

    def symbols(self, start: int, stop: int) -> IntVector:
        """The symbol of each 64 weights, (rows, blocks)."""
        n = -(-self.columns // BLOCK)
        words = self._words("block", 16 * -(-2 * n // 16), start, stop).view("<u2")[:, :n]
        return (words & (SYMBOLS - 1)).astype(np.int64)

    def dither(self, start: int, stop: int) -> npt.NDArray[np.uint16]:
        """A uniform 16-bit number a weight, (rows, columns)."""
        return self._words("dither", 16 * -(-2 * self.columns // 16), start, stop).view("<u2")[:, : self.columns]

    def _words(self, purpose: str, stride: int, start: int, stop: int) -> npt.NDArray[np.uint8]:
        data = self.key.stream(self.role, purpose)(start * stride, (stop - start) * stride)
        return np.frombuffer(data, dtype=np.uint8).reshape(stop - start, stride)


def strength(key: Key, n_carriers: int) -> float:
    """Relative size of the mark: what the target asks of this many carriers, within the bounds of the key."""
    p = key.params
    if p.get("eps"):
        return float(p["eps"])
    return min(float(p["eps_cap"]), max(float(p["eps_min"]), float(p["target"]) / math.sqrt(max(1, n_carriers))))


def scanned(rows: npt.NDArray[Any], start: int, role: str, key: Key) -> Carried:
    """Blind sums of some rows of a matrix, `start` the first, in units of their own size; uint16 are bits of bfloat16."""
    stream, stop = Stream(key, role, rows.shape[1]), start + rows.shape[0]
    return carried(rows, stream.signs(start, stop), stream.symbols(start, stop), clip=float(key.params["clip"]))


def compared(rows: npt.NDArray[Any], known: npt.NDArray[Any], start: int, role: str, key: Key) -> Carried:
    """Sums of what differs from the same rows of the unmarked model, in its units; zeros of the suspect say nothing."""
    stream, stop = Stream(key, role, rows.shape[1]), start + rows.shape[0]
    with np.errstate(invalid="ignore", over="ignore"):
        change = np.where(rows != 0.0, rows.astype(np.float64) - known, 0.0)
    signs, symbols = stream.signs(start, stop), stream.symbols(start, stop)
    return carried(change, signs, symbols, clip=INFORMED_CLIP, scale=scales(known))


def steps(total: Carried, key: Key, eps: float) -> Float64Array:
    """The shift of each symbol: the code's, less what the unmarked weights already say by chance, as far as eps goes."""
    host = np.clip(total.means, -eps, eps)
    return eps * codeword(key.payload) - float(key.params["iss"]) * host


def marked(
    rows: npt.NDArray[Any], start: int, role: str, key: Key, shifts: Float64Array, dtype: str, *, sparse: bool
) -> Float64Array:
    """Some rows after the shift, as their number format can hold them.

    Parameters
    ----------
    rows : (m, n) float32 or float64
    start : int
        Number of the first.
    role : str
    key : Key
    shifts : (512,) float64
        From `steps`.
    dtype : str
        Name of the format, as in safetensors headers.
    sparse : bool
        Leave exact zeros.

    Returns
    -------
    (m, n) float64
        Values of that format. What is not finite, or would leave the range, stays.
    """
    stream, stop = Stream(key, role, rows.shape[1]), start + rows.shape[0]
    target = shifted(rows, scales(rows), stream.signs(start, stop), stream.symbols(start, stop), shifts)
    if dtype in GRIDS:
        target = rounded(target, stream.dither(start, stop), GRIDS[dtype])
    elif dtype == "F32":
        target = target.astype(np.float32).astype(np.float64)
    keep = ~np.isfinite(target) | ~np.isfinite(rows)
    if sparse:
        keep |= rows == 0.0
    empty = scales(rows) == 0.0
    keep |= empty[:, None]
    out: Float64Array = np.where(keep, rows, target)
    return out


def read(blind: Carried, key: Key, *, planned: int, informed: Carried | None = None, n_variants: int = 1) -> Reading:
    """What the sums say.

    Parameters
    ----------
    blind : Carried
        Of any part of the suspect.
    key : Key
    planned : int
        Carriers of the whole model.
    informed : Carried, optional
        Of what differs from the unmarked model; decides in place of the blind sums where given.
    n_variants : int
        Ways in which the suspect was prepared before the best was taken; multiplies p.

    Returns
    -------
    Reading

    Notes
    -----
    Null: signs are fair and drawn without a look at the suspect or the unmarked reference. The sum over the root sum of
    squares then exceeds t with probability at most 3.178 Q(t), for every suspect (doi 10.3150/14-BEJ603).
    """
    used = blind if informed is None else informed
    code = codeword(key.payload)
    t = used.statistic(code)
    soft = blind.soft if informed is None or abs(t) / math.sqrt(SYMBOLS) < _PAYLOAD_SOFT else informed.soft
    found = decoded(soft) if used.n else None
    return Reading(
        test=result("dss", t, used.n, log_sign_tail(t) + math.log(n_variants) if used.n else 0.0),
        carriers=used.n,
        coverage=min(1.0, blind.n / max(1, planned)),
        bit_errors=int(np.count_nonzero(np.sign(soft) == -code)),
        bits=int(np.count_nonzero(soft)),
        payload=found,
    )


class Dss:
    """The scheme over whole arrays; files are marked and read slice by slice with the functions above."""

    name = "dss"
    version = 1
    caps = Caps(takes_reference=True, payload_bytes=LENGTH, streams=True)

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Strength by the statistic it aims at."""
        return {
            "target": TARGETS[strength],
            "eps": 0,
            "eps_min": 0.0004,
            "eps_cap": 0.012,
            "kinds": list(KINDS),
            "smallest": 64,
            "clip": 4.0,
            "iss": 1.0,
            "code": "qcldpc-512-130/1",
        }

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Matrices of the kinds of the key whose both sides are long enough."""
        kinds, least = set(key.params["kinds"]), int(key.params["smallest"])
        return tuple(
            sorted(r for r, s in shapes.items() if split_role(r)[1] in kinds and len(s) == 2 and min(s) >= least)
        )

    def embed(self, weights: Mapping[str, npt.NDArray[Any]], key: Key) -> dict[str, npt.NDArray[Any]]:
        """Every carrier matrix with its shifts, in the dtype it had."""
        roles = self.carriers({r: w.shape for r, w in weights.items()}, key)
        total = sum((self._sums(weights[r], r, key) for r in roles), Carried.none())
        shifts = steps(total, key, strength(key, sum(weights[r].size for r in roles)))
        out = {}
        for role in roles:
            w = weights[role]
            wide = w.astype(np.float64 if w.dtype == np.float64 else np.float32)
            new = marked(wide, 0, role, key, shifts, FORMATS[w.dtype.name], sparse=bool(np.mean(wide == 0.0) > SPARSE))
            out[role] = new.astype(w.dtype)
        return out

    def verify(
        self,
        weights: Mapping[str, npt.NDArray[Any]],
        key: Key,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        reference: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Reading:
        """Look for the mark in the carrier matrices that are there in their shape."""
        roles = self.carriers(shapes, key)
        there = [r for r in roles if r in weights and weights[r].shape == tuple(shapes[r])]
        blind = sum((self._sums(weights[r], r, key) for r in there), Carried.none())
        informed = None
        if reference is not None:
            both = [r for r in there if r in reference and reference[r].shape == weights[r].shape]
            informed = sum((self._against(weights[r], reference[r], r, key) for r in both), Carried.none())
        return read(blind, key, planned=sum(math.prod(shapes[r]) for r in roles), informed=informed)

    def _sums(self, w: npt.NDArray[Any], role: str, key: Key) -> Carried:
        parts = (scanned(_wide(w[a:b]), a, role, key) for a, b in pieces(w.shape))
        return sum(parts, Carried.none())

    def _against(self, w: npt.NDArray[Any], known: npt.NDArray[Any], role: str, key: Key) -> Carried:
        parts = (compared(_wide(w[a:b]), _wide(known[a:b]), a, role, key) for a, b in pieces(w.shape))
        return sum(parts, Carried.none())


def as_stored(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """Values in the numpy format of a name in safetensors headers; unchanged where none of `FORMATS` has it."""
    named = next((n for n, header in FORMATS.items() if header == dtype), None)
    return values if named is None else values.astype(getattr(ml_dtypes, named, named))


def pieces(shape: tuple[int, ...]) -> Iterable[tuple[int, int]]:
    """Half-open rows that are looked at together."""
    each = max(1, _ROWS // max(1, shape[1]))
    return ((a, min(shape[0], a + each)) for a in range(0, shape[0], each))


def _wide(w: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return w if w.dtype in {np.dtype(np.float32), np.dtype(np.float64)} else w.astype(np.float32)
