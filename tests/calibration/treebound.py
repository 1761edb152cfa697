"""How right a tree could be that knew what it cannot know: the cosines of these very twins, the order in which they were made.

Not part of `make trees`. Densities are taken from the true trees that are then asked for, and the best of several powers is
kept, so each row but the first peeks at the answers: what it reaches is about the most that lengths and angles hold.
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "fixtures"), str(ROOT)]

import numpy as np  # noqa: E402

import twins  # noqa: E402
from lineage.kinship import kinship  # noqa: E402
from lineage.posterior import COSINES, FONDNESS, TEMPER, link_weights, tree_posterior  # noqa: E402
from lineage.signals import traits_of  # noqa: E402
from stats.arborescence import minimum_arborescence  # noqa: E402
from stats.treewalk import BINS, walked_trees  # noqa: E402

TEMPERS = (3.0, TEMPER, 9.0)
NEVER = 1e3
WIDTH = 0.05


def asked(family):
    """(kinship, true links, place in the order of making) of a family."""
    ids = sorted(family.studies)
    kin = kinship([family.studies[i] for i in ids], {i: traits_of(family.studies[i]) for i in ids})
    links = {(ids.index(p), ids.index(c)) for c, parents in family.parents.items() for p in parents}
    made = list(family.parents)
    return kin, links, np.array([made.index(i) for i in ids])


def true_cosines(rows):
    """Log densities of the cosines of the true trees, by kernels."""
    seen = ([], [], [])
    for kin, links, _ in rows:
        d = kin.squared
        for (p, v), (q, w) in combinations(sorted(links), 2):
            size = d[p, v] * d[q, w]
            if size > 0.0:
                kind = 0 if p == q else 1 if p == w or q == v else 2
                seen[kind].append(0.5 * (d[v, q] + d[p, w] - d[v, w] - d[p, q]) / np.sqrt(size))
    at = np.linspace(-1.0, 1.0, BINS)[:, None]
    bell = [np.exp(-0.5 * ((at - np.array(s)) / WIDTH) ** 2).mean(axis=1) / (WIDTH * np.sqrt(2 * np.pi)) for s in seen]
    return np.log(0.99 * np.stack(bell) + 0.005)


def right(rows, table, tempers, *, ordered):
    """Best (directed, undirected) share of true links over some powers."""
    best = (0.0, 0.0)
    for temper in tempers:
        hits = both = total = 0
        for kin, links, made in rows:
            n = len(kin.ids)
            weight = link_weights(kin, 0.0) - (NEVER * (made[:, None] > made[None, :]) if ordered else 0.0)
            start = (
                np.where(np.arange(n) == np.argmin(made), -1, np.argmin(made))
                if ordered
                else tree_posterior(kin).parent
            )
            rng = np.random.default_rng(0)
            found = walked_trees(kin.squared, weight, table, start, rng, temper=temper / n, popularity=FONDNESS)
            cost = -np.log(np.where(np.eye(n) > 0, 1.0, found.edge))
            np.fill_diagonal(cost, np.inf)
            got = {(int(p), v) for v, p in enumerate(minimum_arborescence(cost)) if p >= 0}
            hits += len(got & links)
            both += len({frozenset(e) for e in got} & {frozenset(e) for e in links})
            total += len(links)
        best = max(best, (hits / total, both / total))
    return best


def main() -> None:
    """Print what each kind of knowledge would give."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=26)
    size = parser.parse_args().size
    rows = [asked(twins.vthr(s, tuple(range(8, 16)))) for s in range(size)]
    own = true_cosines(rows)
    for name, table, tempers, ordered in (
        ("as it is", COSINES, (TEMPER,), False),
        ("with the cosines of these twins", own, TEMPERS, False),
        ("with the order of making", COSINES, (TEMPER,), True),
        ("with both", own, TEMPERS, True),
    ):
        directed, undirected = right(rows, table, tempers, ordered=ordered)
        sys.stdout.write(f"{name}: directed {directed:.3f}, undirected {undirected:.3f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
