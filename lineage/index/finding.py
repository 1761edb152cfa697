"""Candidates: which models of an index are worth a test against one model, whatever was done to it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lineage.index.backends import BACKENDS, Nearest
from lineage.index.matrix import SignMatrix, sign_matrix, words_of
from lineage.index.store import Store
from lineage.index.vectors import FIELDS, FREE, LABELLED, Vector, fine_of
from stats.arrays import Float64Array, IntVector

EACH = 32
"""Candidates of each field by labels, and of the fine look at inner products: a family that fills them is found all the
same, and its other members by a search from those."""

UNLIKELY = 3.0
"""Least distance from chance, in standard deviations, from which a field by labels makes a candidate; among many models
the distance that chance reaches about once. The first few of each field always do."""

_ALWAYS = 2
ALIKE = 0.2
"""Correlation of inner products from which a model is a candidate; the first few always are. Strangers of the fixtures reach
it once in seventy pairs, and the 5th percentile of relatives is 0.25."""

_FIRST = 16
_LOOKED_AT = 512
"""Models of each field of inner products whose finer numbers are looked at."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may be related.

    Attributes
    ----------
    id : str
    strength : float
        Largest cosine that any field shows: a number without a null, for the order alone.
    fields : mapping of str to float
        Cosine by field.
    products : float or None
        Correlation of the finer inner products, where that was looked at.
    """

    id: str
    strength: float
    fields: Mapping[str, float]
    products: float | None = None


class Finder:
    """Finds candidates in one index.

    Attributes
    ----------
    store : Store
    matrix : SignMatrix
    """

    def __init__(self, store: Store, *, backend: str = "exact") -> None:
        self.store = store
        self.matrix: SignMatrix = sign_matrix(store)
        self._nearest: Nearest = BACKENDS[backend](self.matrix)

    def candidates(self, vector: Vector, *, most: int = 2 * EACH, without: Sequence[str] = ()) -> list[Candidate]:
        """Models worth a test, the most alike first.

        Parameters
        ----------
        vector : Vector
            Of the model asked about.
        most : int
            How many at most.
        without : sequence of str
            Ids that are left out.

        Returns
        -------
        list of Candidate
            Of all fields together; equal strengths in the order of rows.
        """
        fields: dict[int, dict[str, float]] = {}
        for name in LABELLED:
            if vector.has(name):
                rows, cosines = self._by_labels(name, vector)
                for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
                    fields.setdefault(row, {})[name] = cosine
        products = self._by_products(vector)
        best = sorted(products, key=lambda row: (-products[row], row))[: EACH + len(without)]
        for place, row in enumerate(best):
            if products[row] >= ALIKE or place < _FIRST + len(without):
                fields.setdefault(row, {})
        found = []
        for row, seen in fields.items():
            strength = max([*seen.values(), products.get(row, 0.0)])
            found.append((-strength, row, seen))
        found.sort(key=lambda item: item[:2])
        names = self._names([row for _, row, _ in found])
        kept = [
            Candidate(names[row], -strength, seen, products.get(row))
            for strength, row, seen in found
            if names[row] not in without
        ]
        return kept[:most]

    def products(self, vector: Vector, *, without: Sequence[str] = ()) -> list[tuple[str, float]]:
        """Models by the correlation of their inner products between tokens, the most alike first; controls of a resemblance."""
        found = self._by_products(vector)
        names = self._names(list(found))
        ranked = sorted(found, key=lambda row: (-found[row], row))
        return [(names[row], found[row]) for row in ranked if names[row] not in without]

    def _by_labels(self, name: str, vector: Vector) -> tuple[IntVector, Float64Array]:
        ranges = self.matrix.ranges(layout=vector.layout)
        rows, gaps = self._nearest(name, words_of(vector, name), ranges, EACH)
        bits, n = FIELDS[name], sum(part.stop - part.start for part in ranges)
        far = (bits - 2 * gaps) / math.sqrt(bits)
        kept = (far >= max(UNLIKELY, math.sqrt(2.0 * math.log(max(n, 1))))) | (np.arange(rows.size) < _ALWAYS)
        return rows[kept], np.sin(0.5 * math.pi * (1.0 - 2.0 * gaps[kept] / bits))

    def _by_products(self, vector: Vector) -> dict[int, float]:
        """Row to mean correlation of the finer inner products of embedding and head."""
        ranges = self.matrix.ranges(tokens=vector.tokens)
        rows = [self._nearest(name, words_of(vector, name), ranges, _LOOKED_AT)[0] for name in FREE if vector.has(name)]
        found = np.unique(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)
        at_row = {int(self.matrix.numbers[row]): row for row in found.tolist()}
        query = "SELECT model, CAST(data AS BLOB) FROM vectors WHERE model IN (SELECT value FROM json_each(?))"
        held = list(self.store.rows(query, (json.dumps(list(at_row)),)))
        likely = likenesses(vector, [data for _, data in held])
        return {at_row[number]: value for (number, _), value in zip(held, likely, strict=True)}

    def _names(self, rows: Sequence[int]) -> dict[int, str]:
        by_number = {int(self.matrix.numbers[row]): row for row in rows}
        query = "SELECT number, id FROM models WHERE number IN (SELECT value FROM json_each(?))"
        listed = json.dumps(list(by_number))
        return {by_number[n]: name for n, name in self.store.rows(query, (listed,))}


def likenesses(vector: Vector, others: Sequence[bytes]) -> list[float]:
    """Mean correlation of the inner products of tokens of one model and of stored vectors, over the tables both have."""
    if not others:
        return []
    held, fine = fine_of(others)
    total, count = np.zeros(len(others)), np.zeros(len(others))
    for i, name in enumerate(FREE):
        mine, theirs = vector.fine[i].astype(np.float64), fine[:, i].astype(np.float64)
        both = (held >> list(FIELDS).index(name) & 1).astype(np.bool_) & vector.has(name)
        sizes = np.sqrt(np.einsum("ij,ij->i", theirs, theirs) * float(mine @ mine))
        total += np.where(both, theirs @ mine / np.maximum(sizes, 1e-300), 0.0)
        count += both
    return [float(v) for v in total / np.maximum(count, 1)]
