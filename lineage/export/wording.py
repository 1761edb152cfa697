"""What stands beside marks and lines: the words that all drawings share."""

from lineage.export.contents import Contents, Model
from lineage.export.drawing import Drawing, Family, Joint, Line
from lineage.names import cells, safe

TIMES = "\N{MULTIPLICATION SIGN}"
"""Before the share of a parent in a merge."""

_LONGEST_KIND = 24
"""Letters of a kind; those of this version have 21 at most."""


def heading_of(family: Family, number: int) -> str:
    """What stands above a family."""
    copies = f" and {counted(family.n_copies, 'copy', 'copies')}" if family.n_copies else ""
    return f"Family {number}: {counted(len(family.models), 'model')}{copies}"


def summary_of(contents: Contents, drawing: Drawing) -> str:
    """Counts of everything, in sentences."""
    n_copies = sum(map(len, drawing.copies.values()))
    alone = f", {len(drawing.alone):,} on {'its' if len(drawing.alone) == 1 else 'their'} own" if drawing.alone else ""
    families = counted(len(drawing.families), "family", "families") if drawing.families else "no family"
    parts = [f"{title_of(contents)}: {families}{alone}."]
    if n_copies == 1:
        parts.append("1 is an identical copy and stands behind its original.")
    if n_copies > 1:
        parts.append(f"{n_copies:,} are identical copies and stand behind their originals.")
    if drawing.n_implied:
        are = "is" if drawing.n_implied == 1 else "are"
        parts.append(f"{counted(drawing.n_implied, 'link')} that the lines imply {are} not drawn.")
    if contents.n_skipped:
        parts.append(f"{counted(contents.n_skipped, 'model')} could not be read.")
    return " ".join(parts)


def title_of(contents: Contents) -> str:
    """How many models there are."""
    return counted(len(contents.models), "model")


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def weights_of(model: Model) -> str:
    """Architecture, size and number format in a few words."""
    words = [safe(model.architecture or "unknown architecture"), size_of(model.parameters), safe(model.dtype)]
    return ", ".join(w for w in words if w)


def size_of(parameters: int) -> str:
    """A number of parameters in the unit that fits; empty for none."""
    for unit, one in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if parameters >= one:
            return f"{parameters / one:.3g}{unit}" if parameters < 999.5 * one else f"{parameters / one:.0f}{unit}"
    return str(parameters) if parameters else ""


def words_of(line: Line) -> str:
    """What stands beside a line: kind, share of the parent in a merge, probability."""
    if line.link is None:
        return ""
    words, numbers = safe(line.link.kind), line.link.numbers
    if cells(words) > _LONGEST_KIND:
        words = "other"
    if "coefficient" in numbers:
        words += f" {TIMES}{numbers['coefficient']:.2g}"
    return f"{words} {numbers['probability']:.2f}" if "probability" in numbers else words


def name_of_joint(joint: Joint) -> str:
    """What stands beside a joint."""
    return "common start" if joint.style == "shared-init" else "common parent"
