"""Adapters among the inputs of a tree: what they fit, and edges to the models they were merged into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crawl import CrawlError, ModelRef, OpenOptions, WeightSource, open_model
from lineage.adapters import Adapter, Merged, adapter_of, merged_into, targets_in
from lineage.graph import Component, Edge, LineageGraph, Unresolved
from lineage.infer import sigmoid
from lineage.relation import LOG_ODDS_CAP

MOST_PAIRS = 64
"""Pairs of a possible base and a possible merge that are read for one adapter."""

DIRECTION = 5.0
"""Log-odds that the sum came after the other one: whoever writes an adapter with the other sign can turn it around."""

_OPEN = "direction-undetermined"


@dataclass(frozen=True, slots=True)
class Fit:
    """What is known of one adapter among the inputs.

    Attributes
    ----------
    id : str
    adapter : Adapter
    fits : tuple of str
        Models whose names and shapes it fits: no evidence for any of them.
    merged : tuple of Merged
    """

    id: str
    adapter: Adapter
    fits: tuple[str, ...]
    merged: tuple[Merged, ...]

    @property
    def entry(self) -> dict[str, Any]:
        """For a document."""
        return {
            "id": self.id,
            "rank": self.adapter.rank,
            "targets": list(self.adapter.targets),
            "modules": len(self.adapter.modules),
            "compatible_with": list(self.fits),
            "merged": [
                {"base": m.base, "merged": m.merged, "scale": round(m.scale, 6), "share": round(m.share, 6)}
                for m in self.merged
            ],
            "base": self.merged[0].base if len({m.base for m in self.merged}) == 1 else None,
            "reason": _reason(self),
        }


def _reason(fit: Fit) -> str:
    if fit.merged:
        return "a model is its base plus a multiple of this adapter; whether it was trained on that base is not shown"
    return f"compatible with {len(fit.fits)} by names and shapes, which is no evidence for any of them"


def fits_of(
    adapters: Sequence[tuple[str, ModelRef]],
    models: Sequence[tuple[str, ModelRef]],
    pairs: Sequence[tuple[str, str]],
    options: OpenOptions | None,
) -> list[Fit]:
    """Look at every adapter among the inputs.

    Parameters
    ----------
    adapters : sequence of (str, ModelRef)
        Inputs of no known architecture: those that hold no adapter are passed over.
    models : sequence of (str, ModelRef)
        All others.
    pairs : sequence of (str, str)
        Related models, the likelier parent first.
    options : OpenOptions or None

    Returns
    -------
    list of Fit
        One that cannot be opened any more is left out.
    """
    where, found = dict(models), []
    for name, ref in adapters:
        try:
            with open_model(ref, options=options) as source:
                adapter = adapter_of(source)
                if adapter is None:
                    continue
                fits = tuple(i for i, place in models if _is_fit(adapter, place, options))
                asked = [p for p in pairs if set(p) <= set(fits)][:MOST_PAIRS]
                merged = [m for pair in asked if (m := _merged(adapter, source, pair, where, options)) is not None]
        except CrawlError:
            continue
        found.append(Fit(name, adapter, fits, tuple(merged)))
    return found


def _is_fit(adapter: Adapter, ref: ModelRef, options: OpenOptions | None) -> bool:
    try:
        with open_model(ref, options=options) as model:
            return targets_in(adapter, model) is not None
    except CrawlError:
        return False


def _merged(
    adapter: Adapter,
    source: WeightSource,
    pair: tuple[str, str],
    where: Mapping[str, ModelRef],
    options: OpenOptions | None,
) -> Merged | None:
    with open_model(where[pair[0]], options=options) as one, open_model(where[pair[1]], options=options) as two:
        for names, models in ((pair, (one, two)), (pair[::-1], (two, one))):
            found = merged_into(adapter, source, *models)
            if found is not None:
                return replace(found, base=names[0], merged=names[1])
    return None


def with_adapters(graph: LineageGraph, fits: Sequence[Fit]) -> LineageGraph:
    """A graph with an edge from each adapter to the models it was merged into, and the direction that this tells.

    Parameters
    ----------
    graph : LineageGraph
    fits : sequence of Fit

    Returns
    -------
    LineageGraph
        Links between a base and its merge that were open become edges.
    """
    merged = [(fit, m) for fit in fits for m in fit.merged]
    if not merged:
        return graph
    edges, unresolved = list(graph.edges), list(graph.unresolved)
    for fit, m in merged:
        signals = [{"name": "adapter", "log_odds": DIRECTION}]
        told = {"signals": signals, "adapter": fit.id, "scale": round(m.scale, 6), "replay_share": round(m.share, 6)}
        sure = sigmoid(LOG_ODDS_CAP)
        edges.append(Edge(fit.id, m.merged, "lora-merge", sure, sure, 0.0, "heuristic", round(m.scale, 6), told))
        open_links = [u for u in unresolved if {u.a, u.b} == {m.base, m.merged} and u.reason == _OPEN]
        for link in open_links:
            unresolved.remove(link)
            edges.append(_directed(link, m, told))
    moved = {fit.id: m.merged for fit, m in merged}
    ordered = tuple(sorted(edges, key=lambda e: (e.parent, e.child)))
    return _renumbered(replace(graph, edges=ordered, unresolved=tuple(unresolved)), moved)


def _directed(link: Unresolved, m: Merged, told: Mapping[str, Any]) -> Edge:
    sure = sigmoid(DIRECTION)
    return Edge(m.base, m.merged, "lora-merge", sure, sure, link.log_pvalue, "exact", evidence=dict(told))


def _renumbered(graph: LineageGraph, moved: Mapping[str, str]) -> LineageGraph:
    """Adapters in the families of the models they were merged into; families numbered anew, in order."""
    component_of = {n.id: n.component for n in graph.nodes}
    home = {i: component_of[target] for i, target in moved.items()}
    kept: list[Component] = []
    for c in graph.components:
        guests = [i for i, number in home.items() if number == c.id and i not in c.members]
        members = tuple(sorted({*(i for i in c.members if home.get(i, c.id) == c.id), *guests}))
        if members:
            roots = [r for r in zip(c.roots, c.root_probabilities, strict=True) if r[0] in members]
            roots += [(i, 1.0) for i in sorted(guests)]
            kept.append(
                replace(
                    c, members=members, roots=tuple(r for r, _ in roots), root_probabilities=tuple(p for _, p in roots)
                )
            )
    new = {c.id: n for n, c in enumerate(kept)}
    nodes = tuple(replace(n, component=new[home.get(n.duplicate_of or n.id, n.component)]) for n in graph.nodes)
    return replace(graph, nodes=nodes, components=tuple(replace(c, id=new[c.id]) for c in kept))
