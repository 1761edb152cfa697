"""Drawn lines of a tree: names and words fitted into a width, long lists folded into counts."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from lineage.names import safe, shortened
from lineage.report.branches import Branches, Grove, Twig
from lineage.report.folding import Folding, chosen
from lineage.report.text import counted

_NAME, _LEAST = 28, 5
"""Columns a name keeps before words go, and before the last of them do."""

_ALSO = 3
"""Further parents named on one line."""

_KINDS = 3
"""Kinds named where many children are counted."""


class Pen:
    """Draws the trees of one document at one width."""

    def __init__(self, branches: Branches, folding: Folding, width: int) -> None:
        self.branches = branches
        self.folding = folding
        self.width = width
        self.n_folded = 0

    def trees(self, grove: Grove, words: Mapping[str, Sequence[str]]) -> list[Text | str]:
        """Lines of the trees of one family; `words` of each uppermost model, from many to none."""
        named = chosen(grove, self.folding)
        lines: list[Text | str] = []
        told = ""
        for top, link in grove.tops:
            if top in named:
                lines += [link] if link not in {"", told} else []
                told = link
                lines += self._tree(grove, top, words[top], named)
        left = [top for top, _ in grove.tops if top not in named]
        if left:
            n = self.counts(sum(grove.weight[top] for top in left))
            lines.append(f"… {counted(len(left), 'more tree')} of this family, {counted(n, 'model')} in all")
        return lines

    def _tree(self, grove: Grove, top: str, words: Sequence[str], named: Container[str]) -> list[Text]:
        lines = [*self._named("", top, words)]
        self._also(lines, grove, top, "│ " if top in grove.below else "  ")
        stack = [*reversed(self._entries(grove, top, "", named))]
        while stack:
            before, after, twig = stack.pop()
            if isinstance(twig, str):
                lines.append(line(before, twig, "", "dim"))
                continue
            lines += self._named(before, twig.name, self._words(twig), after)
            self._also(lines, grove, twig.name, after + ("│ " if twig.name in grove.below else "  "))
            stack += reversed(self._entries(grove, twig.name, self._kept(after), named))
        return lines

    def listed(self, names: Sequence[str]) -> list[Text]:
        """Names that stand in no tree: one a line where they are few, else side by side, else counted."""
        if len(names) <= self.folding.listed:
            return [line for name in names for line in self._named("  ", name, ("",))]
        lines: list[str] = []
        room, row, done = self.width - 2, "", 0
        for name in names:
            told = shortened(safe(name), 40, cell_len) + self._count_of(name)
            more = ", ".join(filter(None, (row, told)))
            if cell_len(more) > room - 22 and row:
                if len(lines) + 1 == self.folding.listed:
                    break
                lines.append(row + ",")
                more = told
            row, done = more, done + 1
        hidden = sum(self._weight(name) for name in names[done:])
        self.n_folded += hidden
        lines.append(row + (f" and {hidden:,} more" if hidden else ""))
        self.n_folded += sum(len(self.branches.twins.get(name, ())) for name in names[:done])
        return [line("  ", shortened(told, room, cell_len)) for told in lines]

    def counts(self, n: int) -> int:
        """Note that so many models are counted and not named."""
        self.n_folded += n
        return n

    def fitted(self, prefix: str, name: str, endings: Sequence[str]) -> tuple[str, str]:
        """A name and the first ending with which it fits, the name shortened in its middle if it must be."""
        room = self.width - cell_len(prefix)
        name = safe(name)
        for ending in endings:
            left = room - cell_len(ending)
            if left >= min(cell_len(name), _NAME):
                return shortened(name, left, cell_len), ending
        ending = shortened(endings[-1], max(1, room - _LEAST), cell_len) if endings[-1] else ""
        return shortened(name, max(1, room - cell_len(ending)), cell_len), ending

    def _entries(
        self, grove: Grove, name: str, prefix: str, named: Container[str]
    ) -> list[tuple[str, str, Twig | str]]:
        """What hangs below one model: (before it, before what hangs below it, twig or count)."""
        twigs = grove.below.get(name, [])
        below: list[Twig | str] = [t for t in twigs if t.name in named]
        if len(below) < len(twigs):
            below.append(
                self._counted(grove, [t for t in twigs if t.name not in named], len(prefix) + 4, is_rest=bool(below))
            )
        made: list[tuple[str, str, Twig | str]] = []
        for i, twig in enumerate(below):
            corner, down = ("└── ", "    ") if i + 1 == len(below) else ("├── ", "│   ")
            made.append((prefix + corner, prefix + down, twig))
        return made

    def _counted(self, grove: Grove, hidden: Sequence[Twig], inset: int, *, is_rest: bool) -> str:
        """One line for many children: how many, of which kinds, and how many models with what hangs below them."""
        n = self.counts(sum(grove.weight[t.name] for t in hidden))
        kinds = sorted(Counter(t.kind for t in hidden).items(), key=lambda item: (-item[1], item[0]))
        start = f"… {len(hidden):,} {'more' if is_rest else 'below'}"
        end = f"; {counted(n, 'model')} in all" if n > len(hidden) else ""
        for k in range(min(_KINDS, len(kinds)), 0, -1):
            each = ", ".join(f"{count:,} {safe(kind)}" for kind, count in kinds[:k])
            told = f"{start}: {each}{', other kinds' if k < len(kinds) else ''}{end}"
            if cell_len(told) + inset <= self.width:
                return told
        return start + end

    def _named(self, prefix: str, name: str, words: Sequence[str], after: str = "") -> Iterator[Text]:
        """The line of one model; its copies stand on it where there is room, else as a number, or on lines of their own."""
        twins = self.branches.twins.get(name, [])
        full = f"  (identical: {', '.join(map(safe, twins))})" if twins else ""
        is_short = cell_len(full) + cell_len(prefix) + _NAME + cell_len(words[-1]) <= self.width
        if not is_short and self.folding.is_full:
            yield line(prefix, *self.fitted(prefix, name, words))
            inset = after or " " * cell_len(prefix)
            for twin in twins:
                yield line(f"{inset}  = ", *self.fitted(f"{inset}  = ", twin, ("  identical", "")))
            return
        count = self._count_of(name)
        endings = [
            *([full + words[0], *(full + w for w in words[1:])] if is_short else ()),
            *(count + w for w in words),
        ]
        shown, ending = self.fitted(prefix, name, endings)
        if twins and not (full and ending.startswith(full)):
            self.counts(len(twins))
        yield line(prefix, shown, ending)

    def _also(self, lines: list[Text], grove: Grove, name: str, prefix: str) -> None:
        """Further parents: behind the words where there is room, else on the next line."""
        parents = grove.also.get(name, [])
        if not parents:
            return
        few = parents if self.folding.is_full else list(islice(parents, _ALSO))
        more = f" and {len(parents) - len(few)} more" if len(few) < len(parents) else ""
        whole = f"also from {', '.join(few)}{more}"
        if cell_len(lines[-1].plain) + cell_len(whole) + 2 <= self.width:
            lines[-1].append(f", {whole}", "dim")
            return
        room = self.width - cell_len(prefix)
        each = max(12, (room - cell_len(f"also from {more}")) // len(few) - 2)
        told = f"also from {', '.join(shortened(p, each, cell_len) for p in few)}{more}"
        lines.append(line(prefix, shortened(told, room, cell_len), "", "dim"))

    def _words(self, twig: Twig) -> list[str]:
        """Endings of a line, from many words to few."""
        words = list(twig.words)
        if self.branches.nodes[twig.name]["virtual"]:
            words.insert(1, "inferred ancestor")
        return [f"  {', '.join(words[:n])}" for n in range(len(words), 0, -1)]

    def _kept(self, prefix: str) -> str:
        """The stems of a deep tree without the outermost ones."""
        most = max(8, self.width // 8 * 4)
        return prefix if len(prefix) <= most else "⋯   " + prefix[8 - most :]

    def _count_of(self, name: str) -> str:
        n = len(self.branches.twins.get(name, ()))
        return f"  ({counted(n, 'identical copy', 'identical copies')})" if n else ""

    def _weight(self, name: str) -> int:
        return 1 + len(self.branches.twins.get(name, ()))


def line(prefix: str, name: str, words: str = "", style: str = "") -> Text:
    """One line of a drawing, never broken."""
    made = Text(prefix, no_wrap=True, overflow="crop")
    made.append(name, style)
    made.append(words, "dim")
    return made


def architecture_of(node: Mapping[str, Any]) -> str:
    """What is said of the uppermost model of a tree."""
    if node["virtual"]:
        return "[inferred ancestor, not among the inputs]"
    return f"[{safe(node['architecture'] or 'unknown architecture')}, {node['parameters']:,} parameters, {safe(node['dtype'])}]"
