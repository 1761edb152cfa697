"""The family graph: nodes and edges with their evidence are the truth, every drawing is a view of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Node:
    """One model.

    Attributes
    ----------
    id, ref : str
        As in the contract: the id is stable, the ref is what was asked for.
    component : int
        Number of its family.
    architecture : str or None
    parameters : int
    dtype : str
    declared : tuple of str
        Parents its card names. Claims: they never enter an edge.
    duplicate_of : str or None
        Smallest id of its class of identical models; such a node has no edges.
    virtual : bool
        An inferred ancestor that was not among the inputs.
    """

    id: str
    ref: str
    component: int
    architecture: str | None
    parameters: int
    dtype: str
    declared: tuple[str, ...] = ()
    duplicate_of: str | None = None
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """A parent and a child, with what says so.

    Attributes
    ----------
    parent, child : str
        Ids.
    kind : str
        Relation kind.
    probability : float
        Of this parent -> child edge, from weights alone.
    direction_probability : float
        That the parent is the parent, given that the edge exists.
    log_pvalue : float
        Natural log, of the pair's test.
    exactness : str
        What that p-value promises.
    coefficient : float or None
        Share of this parent in a merge.
    evidence : mapping
        Distances and signals behind the edge.
    probability_with_metadata : float or None
        The same with dates and declared parents; None where they were not asked for.
    """

    parent: str
    child: str
    kind: str
    probability: float
    direction_probability: float
    log_pvalue: float
    exactness: str
    coefficient: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    probability_with_metadata: float | None = None


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A link that exists but is not an edge: its direction is open, or it is a sibling or a common start."""

    a: str
    b: str
    kind: str
    log_pvalue: float
    reason: str


@dataclass(frozen=True, slots=True)
class Component:
    """One family.

    Attributes
    ----------
    id : int
    roots : tuple of str
        Most probable root of each tree; among equals the most central one.
    root_probabilities : tuple of float
        Of each root, under a uniform prior: 1 / size where no signal speaks.
    members : tuple of str
        Ids, sorted.
    hidden_ancestor : str or None
        Id of an inferred ancestor.
    """

    id: int
    roots: tuple[str, ...]
    root_probabilities: tuple[float, ...]
    members: tuple[str, ...]
    hidden_ancestor: str | None = None


@dataclass(frozen=True, slots=True)
class LineageGraph:
    """Families of models: a DAG of edges plus the links that could not be directed.

    `claimed` holds (parent, child, probability) of the trees that weights, dates and declared parents give together.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    components: tuple[Component, ...]
    unresolved: tuple[Unresolved, ...]
    claimed: tuple[tuple[str, str, float], ...] = ()

    def children_of(self, parent: str) -> list[Edge]:
        """Edges that leave a node, by child id."""
        return sorted((e for e in self.edges if e.parent == parent), key=lambda e: e.child)

    def parents_of(self, child: str) -> list[Edge]:
        """Edges that enter a node, by parent id."""
        return sorted((e for e in self.edges if e.child == child), key=lambda e: e.parent)


def connected_components(ids: Sequence[str], links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Connected components, each sorted, ordered by their smallest id.

    Parameters
    ----------
    ids : sequence of str
        All nodes.
    links : sequence of (str, str)
        Undirected links among them.

    Returns
    -------
    list of list of str
    """
    parent = {i: i for i in ids}

    def find(i: str) -> str:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in links:
        low, high = sorted((find(a), find(b)))
        parent[high] = low
    groups: dict[str, list[str]] = {}
    for i in sorted(ids):
        groups.setdefault(find(i), []).append(i)
    return sorted(groups.values())
