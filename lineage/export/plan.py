"""Where everything of one family stands: boxes, lines and labels, in user units of the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from lineage.export.contents import Model
from lineage.export.drawing import Family, Joint, Line
from lineage.export.layers import Net, layered
from lineage.export.ordering import ordered
from lineage.export.placing import placed
from lineage.export.wording import counted, name_of_joint, weights_of, words_of
from lineage.names import cells, safe, shortened

NAME_SIZE, SMALL_SIZE = 12.0, 10.0
"""Font sizes of names and of everything beside them."""

LETTER = 0.62
"""Width of a letter over the font size: that of the widest usual fonts with one width, and a little."""

MOST_LETTERS = 34
"""Of a name in a box; the whole name is its tooltip."""

BOX_HEIGHT, JOINT_HEIGHT, BEND_HEIGHT = 38.0, 20.0, 8.0
PORT = 16.0
"""Between two lines that end at one box: the height of a label."""

STACK = 3.0
"""How far each of the sheets behind a box with copies stands out."""

GAP, CURVE, MOST_CURVE = 12.0, 44.0, 130.0
"""Between boxes of a layer; width in which lines change height, at least and at most."""

PAD, ARROW = 10.0, 9.0


@dataclass(frozen=True, slots=True)
class Box:
    """One mark: a rectangle with two lines of text, or a joint with one.

    Attributes
    ----------
    x, y, width, height : float
        Of the box itself; sheets of copies stand out by `STACK` each.
    title, detail : str
        What is written in it.
    sheets : int
        0 to 2.
    model : Model or None
    joint : Joint or None
    """

    x: float
    y: float
    width: float
    height: float
    title: str
    detail: str
    sheets: int
    model: Model | None
    joint: Joint | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One line as it is drawn.

    Attributes
    ----------
    path : tuple of tuple of float
        Points: (x, y) of the start, then (x, y) by a straight step, or (x1, y1, x2, y2, x, y) by a curve.
    line : Line
    label : str
    label_x, label_y : float
        End of the label, which stands left of it, and its base line.
    """

    path: tuple[tuple[float, ...], ...]
    line: Line
    label: str
    label_x: float
    label_y: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One family, its upper left corner at 0, 0."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    routes: tuple[Route, ...]


def text_width(text: str, size: float) -> float:
    """Width that a text takes at most."""
    return cells(text) * size * LETTER


def box_of(model: Model, copies: Mapping[str, Sequence[str]], n_ports: int = 1) -> Box:
    """The box of a model, at 0, 0."""
    n = len(copies.get(model.id, ()))
    title = shortened(safe(model.id), MOST_LETTERS)
    detail = "inferred, not among the inputs" if model.virtual else weights_of(model)
    if n:
        detail += f", {counted(n, 'copy', 'copies')}"
    detail = shortened(detail, MOST_LETTERS + 8)
    width = max(text_width(title, NAME_SIZE), text_width(detail, SMALL_SIZE)) + 2.0 * PAD
    return Box(0.0, 0.0, width, max(BOX_HEIGHT, PORT * (n_ports + 1)), title, detail, min(n, 2), model)


def plan_of(family: Family, copies: Mapping[str, Sequence[str]]) -> Plan:
    """Lay one family out from left to right.

    Parameters
    ----------
    family : Family
    copies : mapping of str to sequence of str
        Id to the ids of its identical copies.

    Returns
    -------
    Plan
        No box and no label lies on another, and no line on a box or on the label of another line: each layer is a
        column of labels and a column of boxes, lines change height only between columns, and the label of a line
        stands on its last, level piece.

    Raises
    ------
    UndrawableError
        See `layers.layered`.
    """
    number = {key: i for i, key in enumerate(family.order)}
    net = layered(len(number), [(number[k.source], number[k.target]) for k in family.lines])
    order = ordered(net)
    ports = _ports(net, order)
    boxes = _boxes(family, copies, net)
    # sheets stand out on one side only; with room for them on both, a box is in the middle of its place
    sizes = [(b.width + b.sheets * STACK, b.height + 2.0 * b.sheets * STACK) for b in boxes]
    heights = [height for _, height in sizes] + [BEND_HEIGHT] * (len(net.layer) - len(boxes))
    y = placed(net, order, heights, GAP, ports)
    labels = [words_of(k) for k in family.lines]
    columns = _columns(net, [width for width, _ in sizes], labels, y)
    stand = [_at(box, columns[net.layer[i]][1], y[i]) for i, box in enumerate(boxes)]
    routes = [
        _route(line, [(net.layer[i], y[i]) for i in path], columns, stand[path[0]], stand[path[-1]], ports[n, path[-1]])
        for n, (line, path) in enumerate(zip(family.lines, net.paths, strict=True))
    ]
    width = max((c[2] for c in columns), default=0.0)
    height = max((y[i] + h / 2.0 for i, h in enumerate(heights)), default=0.0)
    return Plan(width, height, tuple(stand), tuple(routes))


def _ports(net: Net, order: Sequence[Sequence[int]]) -> dict[tuple[int, int], float]:
    """(number of a line, its target) to the height at which it ends there; lines end in the order they come in."""
    place = {item: i for row in order for i, item in enumerate(row)}
    ends: dict[int, list[tuple[int, int]]] = {}
    for number, path in enumerate(net.paths):
        ends.setdefault(path[-1], []).append((place[path[-2]], number))
    return {
        (number, target): (i - (len(listed) - 1) / 2.0) * PORT
        for target, listed in ends.items()
        for i, (_, number) in enumerate(sorted(listed))
    }


def _boxes(family: Family, copies: Mapping[str, Sequence[str]], net: Net) -> list[Box]:
    models = {m.id: m for m in family.models}
    joints = {j.key: j for j in family.joints}
    made = []
    for i, key in enumerate(family.order):
        if key in joints:
            joint = joints[key]
            words = name_of_joint(joint)
            width = text_width(words, SMALL_SIZE) + 2.0 * PAD
            made.append(Box(0.0, 0.0, width, JOINT_HEIGHT, words, "", 0, None, joint))
        else:
            made.append(box_of(models[key], copies, len(net.before[i])))
    return made


def _columns(
    net: Net, widths: Sequence[float], labels: Sequence[str], y: Sequence[float]
) -> list[tuple[float, float, float]]:
    """(start of the labels, start of the boxes, end) of each layer."""
    room = [0.0] * net.n_layers
    wide = [0.0] * net.n_layers
    steep = [0.0] * net.n_layers
    for i, width in enumerate(widths):
        wide[net.layer[i]] = max(wide[net.layer[i]], width)
    for label, path in zip(labels, net.paths, strict=True):
        end = net.layer[path[-1]]
        room[end] = max(room[end], text_width(label, SMALL_SIZE) + PAD + ARROW)
        for left, right in pairwise(path):
            steep[net.layer[right]] = max(steep[net.layer[right]], abs(y[left] - y[right]))
    columns = []
    at = 0.0
    for r in range(net.n_layers):
        start = at + (min(MOST_CURVE, CURVE + 0.12 * steep[r]) if r else 0.0)
        columns.append((start, start + room[r], start + room[r] + wide[r]))
        at = columns[-1][2]
    return columns


def _at(box: Box, x: float, centre: float) -> Box:
    return replace(box, x=x, y=centre - box.height / 2.0)


def _route(
    line: Line,
    stops: Sequence[tuple[int, float]],
    columns: Sequence[tuple[float, float, float]],
    source: Box,
    target: Box,
    port: float,
) -> Route:
    """The path by its stops, (layer, height) each: level through a column, curved between two."""
    at = _middle(source)
    points: list[tuple[float, ...]] = [(source.x + source.width, at), (columns[stops[0][0]][2], at)]
    for number, (layer, height) in enumerate(stops[1:], start=2):
        start, _, end = columns[layer]
        is_last = number == len(stops)
        to = _middle(target) + port if is_last else height
        half = (points[-1][-2] + start) / 2.0
        points += [(half, at, half, to, start, to), (target.x if is_last else end, to)]
        at = to
    return Route(tuple(points), line, words_of(line), target.x - ARROW - PAD / 2.0, at - 4.0)


def _middle(box: Box) -> float:
    return box.y + box.height / 2.0
