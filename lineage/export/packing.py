"""Panels in rows, in the order given; smaller panels stand one below another beside a tall one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NARROWEST = 760.0
"""Of a page: its legend should not have to be broken often."""

_SHAPE = 1.5
"""Width over height that a page should have."""

_TRIES = 9
"""Page widths tried: from the least one on, a tenth wider each."""

_LOOK_BACK = 8
"""Rows, and columns of a row, in which a panel looks for room."""


@dataclass(slots=True)
class _Column:
    """Panels one below another."""

    x: float
    width: float
    used: float


@dataclass(slots=True)
class _Row:
    """Columns side by side; the last row may still grow."""

    y: float
    height: float
    columns: list[_Column]

    @property
    def used(self) -> float:
        """Where its last column ends."""
        return self.columns[-1].x + self.columns[-1].width


def packed(sizes: Sequence[tuple[float, float]], gap: float) -> tuple[list[tuple[float, float]], float, float]:
    """Places of panels that do not overlap.

    Parameters
    ----------
    sizes : sequence of (float, float)
        Width and height of each.
    gap : float
        Between two of them.

    Returns
    -------
    list of (float, float), float, float
        Upper left corner of each, and width and height of the page.

    Notes
    -----
    Cost: linear, because a panel looks at a few rows only.
    """
    area = sum((w + gap) * (h + gap) for w, h in sizes)
    least = max([NARROWEST, math.sqrt(area * _SHAPE), *(w for w, _ in sizes)])
    pages = (_page(sizes, least * (1.0 + step / 10.0), gap) for step in range(_TRIES))
    return min(pages, key=lambda page: max(page[1] / _SHAPE, page[2]))


def _page(
    sizes: Sequence[tuple[float, float]], room: float, gap: float
) -> tuple[list[tuple[float, float]], float, float]:
    """Places on a page of one width, and what it then takes of it."""
    rows: list[_Row] = []
    places = [_into(rows, w, h, room, gap) for w, h in sizes]
    height = rows[-1].y + rows[-1].height if rows else 0.0
    return places, max([NARROWEST, *(row.used for row in rows)]), height


def _into(rows: list[_Row], w: float, h: float, width: float, gap: float) -> tuple[float, float]:
    """Put a panel into the first row with room, else beside the last, else into a row of its own."""
    for row in rows[-_LOOK_BACK:]:
        for column in row.columns[-_LOOK_BACK:]:
            if w <= column.width and column.used + gap + h <= row.height:
                y = row.y + column.used + gap
                column.used += gap + h
                return column.x, y
        if row.used + gap + w <= width and (h <= row.height or row is rows[-1]):
            row.columns.append(_Column(row.used + gap, w, h))
            row.height = max(row.height, h)
            return row.columns[-1].x, row.y
    rows.append(_Row(rows[-1].y + rows[-1].height + gap if rows else 0.0, h, [_Column(0.0, w, h)]))
    return 0.0, rows[-1].y
