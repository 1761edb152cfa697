"""The tokens two models have in common: rows of their embeddings, joined by string where both list their tokens."""

from dataclasses import dataclass

import numpy as np

from lineage.body import MOST_TOKENS, Body
from lineage.budget import N_TOKENS, pick_lookups, tokenizer_bytes
from lineage.plan import RowKey
from stats.arrays import Float64Array, IntVector
from stats.result import Skipped

_FEWEST = 16
"""Strings in common below which two vocabularies are not joined."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Rows of the tokens both models have.

    Attributes
    ----------
    a, b : (t,) int64
        Row of each token in either table, those of a ascending.
    joined : bool
        Whether tokens were joined by their strings; else row is row.
    whole : bool
        Whether these are all rows of both tables, or as many as are ever looked at.
    skipped : tuple of Skipped
        Vocabularies that could not be read, and why.
    """

    a: IntVector
    b: IntVector
    joined: bool = False
    whole: bool = True
    skipped: tuple[Skipped, ...] = ()


def shared_rows(a: Body, b: Body) -> Shared:
    """Pair the rows of two tables of tokens.

    Parameters
    ----------
    a, b : Body

    Returns
    -------
    Shared
        By string where both models list their tokens and list some of them at other rows; else by row. A space is one
        space, however a tokenizer marks it.
    """
    sizes = a.n_tokens, b.n_tokens
    plain = np.arange(min(*sizes, MOST_TOKENS))
    if not all(tokenizer_bytes(m.source) for m in (a, b)):
        return Shared(plain, plain, whole=_is_whole(plain.size, sizes))
    skipped = tuple(
        Skipped(
            tensor=m.source.vocabulary.file,
            reason=f"tokens of {m.id} are taken row by row: {m.source.vocabulary.problem}",
        )
        for m in (a, b)
        if m.source.vocabulary.problem
    )
    first, second = (_ids(m, n) for m, n in zip((a, b), sizes, strict=True))
    common = sorted((row, second[token]) for token, row in first.items() if token in second)
    if skipped or len(common) < _FEWEST or all(x == y for x, y in common):
        return Shared(plain, plain, whole=_is_whole(plain.size, sizes), skipped=skipped)
    rows = np.array(common[:MOST_TOKENS])
    return Shared(rows[:, 0], rows[:, 1], joined=True, whole=_is_whole(len(rows), sizes), skipped=skipped)


def shared_tokens(a: Body, b: Body, shared: Shared, key: RowKey) -> tuple[Float64Array, Float64Array] | None:
    """Embeddings of a few of the tokens both models have.

    Parameters
    ----------
    a, b : Body
    shared : Shared
    key : RowKey
        Places the rows where row is row.

    Returns
    -------
    ((t, d_a), (t, d_b)) float64, or None
        None where a model has no embedding, or rows that are not finite.
    """
    if a.vocabulary is None or b.vocabulary is None:
        return None
    if shared.joined:
        picked = np.unique(np.linspace(0, shared.a.size - 1, min(N_TOKENS, shared.a.size)).astype(np.int64))
        rows = shared.a[picked], shared.b[picked]
    else:
        same = np.intersect1d(pick_lookups(a.vocabulary, key), pick_lookups(b.vocabulary, key))
        rows = same, same
    first, second = a.embedding(rows[0]), b.embedding(rows[1])
    return None if first is None or second is None else (first, second)


def _ids(body: Body, n: int) -> dict[str, int]:
    return {token.replace("\u2581", "\u0120"): row for token, row in body.source.vocabulary.ids.items() if row < n}


def _is_whole(n: int, sizes: tuple[int, int]) -> bool:
    return all(n == min(size, MOST_TOKENS) for size in sizes)
