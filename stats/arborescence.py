"""The cheapest arborescence of a dense graph: one parent for every node but the roots, and no cycle."""

import numpy as np
from numpy.typing import ArrayLike

from stats.arrays import Float64Array, IntVector


def minimum_arborescence(
    cost: ArrayLike,
    root: int | None = None,
    *,
    root_cost: ArrayLike | None = None,
    single_root: bool = False,
) -> IntVector:
    """Parents of least total cost.

    Parameters
    ----------
    cost : (n, n) array_like
        cost[u, v] of making u the parent of v; may be negative; inf where u cannot be. The diagonal is not read.
    root : int, optional
        The root. Without it and without `root_cost` any node may be, at no cost, but only one.
    root_cost : (n,) array_like, optional
        Cost of being a root, inf where a node cannot be. Every node may be one: the result is a forest.
    single_root : bool
        With `root_cost`: one root only.

    Returns
    -------
    (n,) int64
        Parent of every node, -1 for a root.

    Raises
    ------
    ValueError
        Shapes do not fit, a cost is NaN or minus infinity, the root is not a node or comes with root costs, or there
        is no such arborescence.

    Notes
    -----
    Null: none. Paths of cheapest incoming arcs are followed; a cycle becomes one super-node, entered at the price of
    the arc it replaces. A super-node is opened again by the original node its arc ends in, wherever that node lies
    inside. With one free root, arcs from outside are taken only where no other arc is left: their number is minimal,
    then the total. Equal costs: the smallest index of a parent first, a parent before a root.
    Cost: O(n^2) time and memory (Tarjan 1977, Networks 7: the form for dense graphs).

    Examples
    --------
    >>> prices = np.array([[0.0, 1.0, 9.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    >>> print(f"parents {minimum_arborescence(prices, 0).tolist()}")
    parents [-1, 0, 1]
    """
    table, outside = _entries(cost, root, root_cost)
    one_free = root is None and (root_cost is None or single_root)
    search = _Search(table, outside, spare_outside=one_free)
    for start in range(table.shape[0]):
        search.settle(start)
    parent = search.parents()
    if one_free and np.count_nonzero(parent < 0) > 1:
        raise ValueError("no arborescence: not every node can be reached from one root")
    return parent


def _entries(cost: ArrayLike, root: int | None, root_cost: ArrayLike | None) -> tuple[Float64Array, Float64Array]:
    """Costs of entering each node: (n, n) from every node, row by row, and (n,) from outside."""
    table = np.array(cost, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        raise ValueError(f"cost must be a square matrix with at least one row, got shape {table.shape}")
    n = table.shape[0]
    np.fill_diagonal(table, np.inf)
    outside = np.zeros(n) if root_cost is None else np.array(root_cost, dtype=np.float64)
    if outside.shape != (n,):
        raise ValueError(f"root_cost must have shape ({n},), got {outside.shape}")
    if not (table > -np.inf).all() or not (outside > -np.inf).all():
        raise ValueError("costs must be numbers or inf, never NaN or minus infinity")
    if root is not None:
        if root_cost is not None or not 0 <= root < n:
            raise ValueError(f"root must be a node, 0 to {n - 1}, and comes without root_cost, got {root}")
        outside[:] = np.inf
        outside[root] = 0.0
        table[:, root] = np.inf
    return np.ascontiguousarray(table.T), outside


class _Search:
    """Paths of cheapest arcs over nodes and super-nodes; numbers from n on are super-nodes, source n is the outside."""

    def __init__(self, table: Float64Array, outside: Float64Array, *, spare_outside: bool) -> None:
        n = table.shape[0]
        self._n = n
        self._spare_outside = spare_outside
        self._into = list(np.column_stack([table, outside]))
        self._ends = [np.full(n + 1, v) for v in range(n)]
        self._arc = [(-1, -1)] * n
        self._weight = [0.0] * n
        self._inside: list[list[int]] = [[] for _ in range(n)]
        self._holder = [-1] * n
        self._top = np.arange(n)  # outermost super-node of every node
        self._settled = [False] * n

    def settle(self, start: int) -> None:
        """Follow cheapest arcs backwards from a node until they come from outside or from what is settled."""
        path = [int(self._top[start])]
        while not self._settled[path[-1]]:
            source = self._choose(path[-1])
            before = int(self._top[source]) if source < self._n else -1
            if before in path:
                first = path.index(before)
                path[first:] = [self._contract(path[first:])]
            elif before < 0 or self._settled[before]:
                for s in path:
                    self._settled[s] = True
            else:
                path.append(before)

    def _choose(self, s: int) -> int:
        """Record the cheapest arc into s and return where it comes from."""
        row = self._into[s]
        source = int(row[: self._n].argmin()) if self._spare_outside else int(row.argmin())
        source = self._n if row[source] == np.inf else source
        if row[source] == np.inf:
            nodes = np.flatnonzero(self._top == s)[:5].tolist()
            raise ValueError(f"no arborescence: no arc leads to the nodes {nodes} from the others")
        self._arc[s] = (source, int(self._ends[s][source]))
        self._weight[s] = float(row[source])
        return source

    def _contract(self, cycle: list[int]) -> int:
        """One super-node for a cycle; entering it through a member replaces that member's arc."""
        s = len(self._into)
        rows = np.stack([self._into[c] - self._weight[c] for c in cycle])
        best = rows.argmin(axis=0)
        every = np.arange(self._n + 1)
        within = np.isin(self._top, cycle)
        self._top[within] = s
        into = rows[best, every]
        into[: self._n][within] = np.inf
        self._into.append(into)
        self._ends.append(np.stack([self._ends[c] for c in cycle])[best, every])
        self._arc.append((-1, -1))
        self._weight.append(0.0)
        self._inside.append(cycle)
        self._holder.append(-1)
        self._settled.append(False)
        for c in cycle:
            self._holder[c] = s
            self._into[c] = self._ends[c] = np.empty(0)
        return s

    def parents(self) -> IntVector:
        """Open all super-nodes: the part that holds the end of the arc gives up its own, the others keep theirs."""
        parent = np.full(self._n, -1, dtype=np.int64)
        waiting = sorted(set(self._top.tolist()))
        while waiting:
            s = waiting.pop()
            source, end = self._arc[s]
            parent[end] = source if source < self._n else -1
            part = end
            while part != s:
                holder = self._holder[part]
                waiting += [c for c in self._inside[holder] if c != part]
                part = holder
        return parent
