"""A tree document in the terminal: one drawn tree per family, then what stands apart and what stayed open."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from lineage.names import safe, shortened
from lineage.report.branches import UNDIRECTED, Branches, Grove
from lineage.report.claims import at_odds, contradicted
from lineage.report.folding import EVERYTHING, Folding
from lineage.report.pen import Pen, architecture_of, line
from lineage.report.text import WIDTH, bytes_text, counted, n_lines, power_of_ten, render, table

MOST_LINES = 60
"""Of the view without --verbose: a page or two of a terminal."""

_LEVELS = tuple(
    Folding(*numbers)
    for numbers in (
        (12, 10**9, 0, 6),
        (12, 40, 0, 6),
        (12, 40, 3, 6),
        (12, 30, 3, 6),
        (10, 24, 4, 6),
        (8, 20, 4, 6),
        (8, 16, 5, 5),
        (6, 13, 5, 5),
        (6, 11, 6, 4),
        (4, 9, 6, 4),
        (4, 8, 8, 4),
        (3, 7, 8, 3),
        (3, 6, 10, 3),
        (2, 5, 12, 3),
        (3, 6, 10, 3, 6),
        (3, 6, 10, 3, 5),
        (3, 5, 12, 3, 4),
        (3, 5, 12, 2, 3),
        (2, 4, 17, 2),
        (1, 3, 33, 2),
        (1, 3, 10**9, 2),
    )
)
"""From the fullest view to the shortest; the first that fits is shown."""

_LONGEST, _GROWN = 41, 2_000
"""Lines up to which drawings grow into what room is left, and models up to which that is tried."""

_MOST_FAMILIES = 12
"""Families on a line each after those that are drawn; further ones are counted."""

_UNDIRECTED = "Undirected links are drawn from the centre of the family and say nothing of who came first."
_UNTESTABLE = "no test was valid on any pair with them (an unknown architecture, or no usable values, on either side)"

_BETWEEN = " ── "
_SHORT = 12
"""Columns that the name of a family in one line keeps; the number of its models goes first."""

Block = list[RenderableType]


def tree_text(
    document: Mapping[str, Any], *, colour: bool = False, width: int | None = None, verbose: bool = False
) -> str:
    """The terminal report of one tree document.

    Parameters
    ----------
    document : mapping
        As of `schemas/tree-1.json`.
    colour : bool
    width : int, optional
        Columns.
    verbose : bool
        Name every model; otherwise there are about `MOST_LINES` lines at most, and whoever is left out is counted
        where it belongs.

    Returns
    -------
    str
    """
    branches = Branches(document)
    columns = width or WIDTH
    if verbose:
        return render(_View(document, branches, EVERYTHING, columns).blocks(), colour=colour, width=width)
    blocks: list[Block] = []
    for folding in _LEVELS:
        blocks = _View(document, branches, folding, columns).blocks()
        if n_lines(blocks, columns) <= MOST_LINES:
            break
    for lines in range(folding.lines + 1, _LONGEST if len(document["nodes"]) <= _GROWN else 0):
        longer = _View(document, branches, replace(folding, lines=lines), columns).blocks()
        if n_lines(longer, columns) > MOST_LINES:
            break
        blocks = longer
    return render(blocks, colour=colour, width=width)


class _View:
    """One document at one width, with so much folded."""

    def __init__(self, document: Mapping[str, Any], branches: Branches, folding: Folding, width: int) -> None:
        self.document = document
        self.branches = branches
        self.folding = folding
        self.width = width
        self.pen = Pen(branches, folding, width)
        self.top_of: dict[str, str] = {}
        nodes, twins = branches.nodes, branches.twins
        self.members: dict[int, list[str]] = defaultdict(list)
        self.copies_of: Counter[int] = Counter()
        for node in document["nodes"]:
            if node["duplicate_of"]:
                self.copies_of[node["component"]] += 1
            else:
                self.members[node["component"]].append(node["id"])
        self.families = sorted(
            (c for c in document["components"] if c["size"] > 1),
            key=lambda c: (-c["size"] - self.copies_of[c["id"]], c["id"]),
        )
        single = [c["roots"][0] for c in document["components"] if c["size"] == 1]
        self.copied = [name for name in single if name in twins]
        rest = [name for name in single if name not in twins]
        self.untestable = [n for n in rest if document["family_size"] and not nodes[n].get("testable", True)]
        untestable = set(self.untestable)
        self.alone = [n for n in rest if n not in untestable]

    def blocks(self) -> list[Block]:
        """Everything that is told, in paragraphs."""
        d = self.document
        why = "no test linked them to anything here" if d["family_size"] else "there was nothing else to test them with"
        blocks: list[Block] = [[self._headline()], *self._drawn()]
        blocks.append(self._listed("Identical, and linked to nothing else here", self.copied))
        blocks.append(self._listed(f"On their own ({len(self.alone):,}): {why}", self.alone))
        blocks.append(self._listed(f"Could not be tested ({len(self.untestable):,}): {_UNTESTABLE}", self.untestable))
        blocks += [self._starts(), self._further()]
        blocks += [list(told(d, self.width, is_full=self.folding.is_full)) for told in (contradicted, at_odds)]
        blocks.append(self._skipped())
        told = self._cost()
        if self.pen.n_folded:
            names = "is counted and not named" if self.pen.n_folded == 1 else "are counted and not named"
            told.insert(0, f"{counted(self.pen.n_folded, 'model')} {names} above; --verbose names all.")
        return [*blocks, told]

    def _headline(self) -> str:
        """Counts that add up to the number of models; copies are counted where their originals are, and once more."""
        d, twins = self.document, self.branches.twins
        related = sum(c["size"] + self.copies_of[c["id"]] for c in self.families)
        copied = sum(1 + len(twins[name]) for name in self.copied)
        parts = [
            f"{related:,} in {counted(len(self.families), 'family', 'families')}" if related else "no family",
            f"{copied:,} in {counted(len(self.copied), 'identical set')} with no other link" if copied else "",
            f"{len(self.alone):,} on {'its' if len(self.alone) == 1 else 'their'} own" if self.alone else "",
            f"{len(self.untestable):,} that could not be tested" if self.untestable else "",
        ]
        n_copies = sum(map(len, twins.values()))
        copies = f" ({counted(n_copies, 'identical copy', 'identical copies')} among them)" if n_copies else ""
        tested = self._tested() if d["family_size"] else "No pair of different models to test."
        return f"{counted(len(d['nodes']), 'model')}{copies}: {', '.join(p for p in parts if p)}. {tested}"

    def _tested(self) -> str:
        """How many pairs were tested, and at which level."""
        d = self.document
        n = d.get("pairs_tested", d["family_size"])
        level = f"at level {d['level_used']:.2g} each (family-wise {d['alpha']:g}"
        if n == d["family_size"]:
            return f"{counted(n, 'pair')} tested {level})."
        return f"{n:,} of {counted(d['family_size'], 'pair')} tested {level} over all pairs)."

    def _drawn(self) -> list[Block]:
        """Families as trees, then the small ones on a line each, then the number of the others."""
        full = self.folding.is_full
        large = [c for c in self.families if c["size"] >= self.folding.drawn_from]
        n_drawn = len(large) if full else min(len(large), self.folding.drawn)
        blocks, is_open = [], False
        for number, component in enumerate(self.families, start=1):
            grove = self.branches.grove(component["id"], self.members[component["id"]], component["roots"])
            self.top_of |= grove.top_of
            if number <= n_drawn:
                blocks.append(self._family(component, grove, number))
                is_open |= any(UNDIRECTED in t.words[0] for twigs in grove.below.values() for t in twigs)
            elif number <= n_drawn + _MOST_FAMILIES:
                if number == n_drawn + 1:
                    blocks.append([])
                blocks[-1].append(self._in_one_line(component, grove, number))
        left = self.families[n_drawn + _MOST_FAMILIES :]
        if left:
            n = self.pen.counts(sum(c["size"] + self.copies_of[c["id"]] for c in left))
            blocks[-1].append(f"… {counted(len(left), 'more family', 'more families')}, {n:,} models in all")
        if is_open:
            blocks[n_drawn - 1].append(_UNDIRECTED)
        return blocks

    def _title(self, component: Mapping[str, Any], number: int) -> str:
        n = self.copies_of[component["id"]]
        copies = f" and {counted(n, 'identical copy', 'identical copies')}" if n else ""
        return f"Family {number}, {counted(component['size'], 'model')}{copies}"

    def _family(self, component: Mapping[str, Any], grove: Grove, number: int) -> Block:
        """One drawing per tree of a family, the largest first."""
        sure = dict(zip(component["roots"], component.get("root_probabilities", ()), strict=False))
        lines: Block = [self._title(component, number)]
        words = {}
        for top, _ in grove.tops:
            size = f"  {architecture_of(self.branches.nodes[top])}"
            told = "  (root undetermined, drawn from the centre)" if sure.get(top, 1.0) <= 0.5 else ""
            words[top] = [size + told, size, ""]
        return [*lines, *self.pen.trees(grove, words)]

    def _in_one_line(self, component: Mapping[str, Any], grove: Grove, number: int) -> Text:
        """A small family: both of a pair, else its first root and how many more."""
        top = grove.tops[0][0]
        prefix = f"{self._title(component, number)}: "
        twigs = grove.below.get(top, [])
        if component["size"] == 2 and len(twigs) == 1 and not self.copies_of[component["id"]]:
            room = self.width - cell_len(prefix) - len(_BETWEEN)
            words = twigs[0].words
            ending = next(e for e in (f"  {words[0]}, {words[1]}", f"  {words[0]}", "") if cell_len(e) <= room // 2)
            ends = [shortened(safe(i), (room - cell_len(ending)) // 2, cell_len) for i in (top, twigs[0].name)]
            return line(prefix, _BETWEEN.join(ends), ending)
        n = self.pen.counts(component["size"] + self.copies_of[component["id"]] - 1)
        more = f" and {n:,} more"
        if cell_len(prefix) + cell_len(more) + _SHORT > self.width:
            prefix = f"Family {number:,}: "
        return line(prefix, *self.pen.fitted(prefix, top, [more]))

    def _listed(self, title: str, names: Sequence[str]) -> Block:
        return [title, *self.pen.listed(names)] if names else []

    def _starts(self) -> Block:
        """Common starts: one row for every two trees, or every pair where all is asked for.

        Two models of one tree have one start in any case: folded, they get no row.
        """
        links = [u for u in self.document["unresolved"] if u["reason"] == "shared-init"]
        if not links:
            return []
        title = "A common start, no evidence of descent"
        if self.folding.is_full:
            rows = [(u["a"], u["b"], u["kind"], power_of_ten(u["log10_p"])) for u in links]
            return [title, table(("model", "model", "kind", "p"), rows, right=(3,))]
        between: dict[tuple[str, str], list[float]] = defaultdict(list)
        for u in links:
            a, b = sorted(self.top_of.get(u[end], u[end]) for end in ("a", "b"))
            if a != b:
                between[a, b].append(u["log10_p"])
        if not between:
            return []
        room = (self.width - 32) // 2
        short = [
            (*(shortened(safe(i), room, cell_len) for i in pair), f"{len(ps):,}", power_of_ten(min(ps)))
            for pair, ps in sorted(between.items())
        ]
        headers = ("tree of", "and tree of", "pairs", "strongest p")
        made: Block = [title, table(headers, short[: self.folding.listed], right=(2, 3))]
        left = len(short) - self.folding.listed
        return [*made, f"… {counted(left, 'more pair')} of trees"] if left > 0 else made

    def _further(self) -> Block:
        """Pairs that the drawings imply, as a number."""
        n = sum(u["reason"] == "sibling" for u in self.document["unresolved"])
        are = "is a pair" if n == 1 else "are pairs"
        return [f"{counted(n, 'further link')} {are} of children of one parent in the trees above."] if n else []

    def _skipped(self) -> Block:
        skipped = self.document["skipped"]
        if not skipped:
            return []
        room = self.width // 2
        rows = [(s["ref"], s["reason"]) for s in skipped]
        if not self.folding.is_full:
            rows = [(shortened(safe(a), room, cell_len), shortened(safe(b), room - 4, cell_len)) for a, b in rows]
        left = len(rows) - self.folding.listed
        more: Block = [f"… and {left:,} more"] if left > 0 else []
        return ["Not read", table(("model", "reason"), rows[: self.folding.listed]), *more]

    def _cost(self) -> Block:
        d = self.document
        run = d["record"]["run"]
        if not d["nodes"] or "bytes_read" not in run:
            return []
        per_model = run["bytes_read"] // max(1, len(run["inputs"]))
        return [f"Read {bytes_text(per_model)} a model on average, {run['seconds']:.1f} s in all."]
