"""The inputs of a tree: read once each, named, and copies put together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from crawl import CrawlError, ModelRef, OpenOptions, open_model
from lineage.errors import NoModelError, UsageError
from lineage.identity import same_values
from lineage.plan import RowKey
from lineage.reading import sign
from lineage.signature import Signature
from lineage.study import Study, study

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Member:
    """One input of the tree: its name in the document, where it is, and what was read of it."""

    id: str
    ref: ModelRef
    signature: Signature
    declared: tuple[str, ...]
    created: datetime | None = None


def read_members(
    refs: Mapping[str, ModelRef] | Sequence[tuple[str, ModelRef]],
    key: RowKey,
    options: OpenOptions | None,
    tell: Progress,
) -> tuple[list[Member], list[tuple[str, str]]]:
    """Signatures of all readable models, by id; an unreadable one is skipped with its sentence and the run goes on.

    Parameters
    ----------
    refs : mapping or sequence of (id, ModelRef)
        On the Hub the id becomes org/name@commit once the commit is known.
    key : RowKey
        Places the rows.
    options : OpenOptions or None
        How models are opened.
    tell : callable
        Progress.

    Returns
    -------
    list of Member, list of (str, str)
        Members sorted by id, one for all references to one commit on the Hub, and (reference, reason) of what could not be read.

    Raises
    ------
    NoModelError
        There is nothing to read, or nothing of it could be read.
    UsageError
        Two models carry one id.
    """
    named = sorted(refs.items() if isinstance(refs, Mapping) else refs, key=lambda pair: pair[0])
    if not named:
        raise NoModelError("no model was found", hint="name models, or a folder that holds some")
    _refuse_collisions([name for name, _ in named])
    members: list[Member] = []
    skipped: list[tuple[str, str]] = []
    for done, (name, ref) in enumerate(named):
        tell("reading", done, len(named))
        try:
            with open_model(ref, options=options) as source:
                known_as = source.ref.id if source.ref.scheme == "hub" else name
                members.append(
                    Member(known_as, ref, sign(source, key=key), tuple(source.card.base_models), source.card.created)
                )
        except CrawlError as error:
            skipped.append((name, str(error)))
    tell("reading", len(named), len(named))
    if not members:
        first = skipped[0][1]
        raise NoModelError(
            first if len(named) == 1 else f"none of {len(named)} models could be read; the first: {first}"
        )
    members.sort(key=lambda m: m.id)
    distinct = members[:1] + [m for before, m in pairwise(members) if not _is_same(before, m)]
    _refuse_collisions([m.id for m in distinct])
    return distinct, skipped


def _is_same(a: Member, b: Member) -> bool:
    """Whether two references to the Hub were resolved to one model: a branch and its commit, say."""
    return a.id == b.id and a.ref.scheme == b.ref.scheme == "hub"


@dataclass(slots=True)
class Studies:
    """Reads larger slices of members that have kin, a family at a time: those of all at once need not fit in memory.

    Attributes
    ----------
    key : RowKey
    options : OpenOptions or None
    tell : callable
        Progress.
    bytes_read : int
        What it cost so far.
    """

    key: RowKey
    options: OpenOptions | None
    tell: Progress
    bytes_read: int = 0

    def read(self, members: Sequence[Member]) -> dict[str, Study]:
        """Larger slices by id.

        Notes
        -----
        A model that cannot be read a second time keeps its place by what its signature says.
        """
        found: dict[str, Study] = {}
        for done, member in enumerate(members):
            self.tell("studying", done, len(members))
            try:
                with open_model(member.ref, options=self.options) as source:
                    read = study(source, self.key, name=member.id)
                    self.bytes_read += source.bytes_read
            except CrawlError:
                continue
            if read is not None and read.matrices:
                found[member.id] = read
        self.tell("studying", len(members), len(members))
        return found


def duplicates_of(members: Sequence[Member], options: OpenOptions | None) -> tuple[dict[str, str], int]:
    """Id of each redundant copy to the smallest id of its class, and the bytes it took to be sure.

    Notes
    -----
    Candidates agree in header and in every value read; then every stored value is compared.
    """
    classes: dict[tuple[str, str], list[Member]] = {}
    for member in members:
        classes.setdefault((member.signature.header_digest, member.signature.slices_digest), []).append(member)
    found: dict[str, str] = {}
    spent = 0
    for group in classes.values():
        kept: list[Member] = []
        for member in group:
            twin, cost = _twin_of(member, kept, options)
            spent += cost
            if twin is None:
                kept.append(member)
            else:
                found[member.id] = twin.id
    return found, spent


def _twin_of(member: Member, kept: Sequence[Member], options: OpenOptions | None) -> tuple[Member | None, int]:
    spent = 0
    for other in kept:
        with open_model(other.ref, options=options) as left, open_model(member.ref, options=options) as right:
            is_same = same_values(left, right) is True
            spent += left.bytes_read + right.bytes_read
        if is_same:
            return other, spent
    return None, spent


def _refuse_collisions(names: Sequence[str]) -> None:
    for first, second in pairwise(names):
        if first == second:
            hint = "search one folder, or name each model apart"
            raise UsageError("two models would carry this id", where=first, hint=hint)
