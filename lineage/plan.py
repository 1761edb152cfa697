"""Which rows, tokens, layers and columns are read of a model: fixed before any value is seen.

Everything here is a function of (signature version, what, n, key), the same for every model: two models of one
shape are read at the same places, and no choice can depend on what the weights say.
"""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lineage.errors import UsageError, words_of
from stats.arrays import IntVector

SIGNATURE_VERSION = 2
"""Rises whenever a choice below changes: signatures of two versions are not comparable."""

N_LAYERS = 4
"""Blocks read, spread over depth: four label groups of 16! each reach 10^-53, far below any level in use."""

N_UNITS = 16
"""Hidden units read per block, one run of neighbours (one range request per matrix): 16! is 10^13.3."""

MAX_COLUMNS = 4096
"""Residual dimensions read of any row: keeps the reading flat in model size, 8 KB a row in 16 bits."""

N_WIDE = 2
"""Blocks of a wider model that are read over all residual dimensions: what is blind to a rotation needs them all."""

VALUE_RUN = 8
N_VALUE_RUNS = 8
"""Value dimensions read in two layers: eight runs of eight. A run that starts at a multiple of eight lies inside one
head whatever the number of heads, which tensors do not show; runs sit at eighths of the axis, so that heads in another
order still meet their partners among them."""

N_EXPERTS = 64
"""Experts whose router rows are read."""

N_CENSUS_ROWS = 4
MAX_CENSUS_COLUMNS = 1024
"""The census looks at every matrix of the chosen layers, only to describe a relation already shown."""

_LOW, _HIGH = 256, 4096
"""Token runs lie below these ids, so that a vocabulary grown at its end is read at the same tokens."""

_PUBLIC = b"lineage public row key 1"


@dataclass(frozen=True, slots=True)
class RowKey:
    """The key that places the rows.

    Attributes
    ----------
    name : str
        "public", or the first 16 hex digits of the digest of a secret key. Goes into the record.
    secret : bytes
        Never printed.
    """

    name: str = "public"
    secret: bytes = _PUBLIC

    def __repr__(self) -> str:
        return f"RowKey(name={self.name!r})"


PUBLIC_KEY = RowKey()


LONGEST_KEY = 1_000_000
"""Bytes of a key: some devices never end."""


def load_row_key(path: Path) -> RowKey:
    """Read a secret row key: the bytes of a file, at least 16 of them.

    Raises
    ------
    UsageError
        The file cannot be read, or is too short to be a secret, or has no end.
    """
    try:
        with path.open("rb") as stream:
            secret = stream.read(LONGEST_KEY + 1)
    except OSError as error:
        reason = f"the row key cannot be read ({words_of(error)})"
        raise UsageError(reason, where=str(path), hint="give a file of at least 16 secret bytes") from error
    if len(secret) > LONGEST_KEY:
        reason = f"a row key of more than {LONGEST_KEY:,} bytes"
        raise UsageError(reason, where=str(path), hint="write 32 random bytes to a file")
    if len(secret) < 16:
        raise UsageError("a row key needs at least 16 bytes", where=str(path), hint="write 32 random bytes to it")
    return RowKey(name=hashlib.sha256(secret).hexdigest()[:16], secret=secret)


def pick_layers(n_layers: int) -> tuple[int, ...]:
    """Layers read of a stack: the middles of `N_LAYERS` equal parts, all of them when there are no more."""
    if n_layers <= N_LAYERS:
        return tuple(range(n_layers))
    return tuple((2 * i + 1) * n_layers // (2 * N_LAYERS) for i in range(N_LAYERS))


def pick_wide(n_layers: int) -> tuple[int, ...]:
    """The layers, among those read, whose rows are read over all residual dimensions, and whose values are read."""
    layers = pick_layers(n_layers)
    middle = (len(layers) - N_WIDE + 1) // 2
    return layers[middle : middle + N_WIDE] if len(layers) > N_WIDE else layers


def pick_values(n: int, most: int = N_VALUE_RUNS) -> IntVector:
    """Value dimensions read: runs of `VALUE_RUN` that begin at multiples of it, spread over the axis; empty when too few."""
    n_runs = min(most, n // VALUE_RUN)
    starts = [n * i // n_runs // VALUE_RUN * VALUE_RUN for i in range(n_runs)]
    return np.concatenate([np.arange(s, s + VALUE_RUN) for s in starts]) if starts else np.arange(0)


def pick_run(what: str, n: int, count: int, key: RowKey) -> IntVector:
    """A run of `count` neighbouring indices below n; all of them when n is no larger."""
    if n <= count:
        return np.arange(n)
    return _start(what, n, n - count + 1, key) + np.arange(count)


def pick_tokens(what: str, n: int, key: RowKey) -> IntVector:
    """Rows of a table of tokens or positions: 64 of them in runs, all of them in small tables."""
    size = _dyadic(n)
    if size <= 64:
        return np.arange(size)
    count = 32 if size < _HIGH else 16
    low = min(size, _LOW)
    runs = [_run_in(what, 0, low // 2, count, key), _run_in(what, low // 2, low, count, key)]
    if size >= _HIGH:
        middle = (_LOW + _HIGH) // 2
        runs += [_run_in(what, _LOW, middle, count, key), _run_in(what, middle, _HIGH, count, key)]
    return np.concatenate(runs)


def pick_columns(n: int, limit: int, key: RowKey) -> slice:
    """A window of at most `limit` neighbouring residual dimensions."""
    if n <= limit:
        return slice(0, n)
    start = int(_start("columns", n, n - limit + 1, key))
    return slice(start, start + limit)


def pick_split(width: int, key: RowKey) -> tuple[IntVector, IntVector]:
    """Two halves of the residual dimensions, one to match hidden units on, one to test."""
    seed = _start("split", width, 1 << 62, key)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(width)
    return np.sort(order[: width // 2]), np.sort(order[width // 2 :])


def _run_in(what: str, low: int, high: int, count: int, key: RowKey) -> IntVector:
    """A run placed as if it had 32 rows, so that the shorter runs of large tables lie inside those of small ones."""
    return low + pick_run(f"{what}/{low}", high - low, 32, key)[:count]


def _dyadic(n: int) -> int:
    """Largest power of two that is no larger than n: small growth of a table leaves the choice alone."""
    return 1 << (max(n, 1).bit_length() - 1)


def _start(what: str, n: int, choices: int, key: RowKey) -> int:
    text = f"{SIGNATURE_VERSION}/{what}/{n}".encode()
    digest = hmac.new(key.secret, text, hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") % choices
