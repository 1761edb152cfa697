"""The document of `lineage mark bench` as people read it: a Markdown table and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from lineage.names import safe

_ROW, _LEFT, _WIDTH, _TOP = 18, 210, 460, 54
_COLOURS = (
    "#1f5fa8",
    "#c05621",
    "#2f855a",
    "#6b46c1",
    "#b7791f",
    "#97266d",
    "#285e61",
    "#4a5568",
    "#9b2c2c",
    "#2c5282",
)


def bench_text(document: Mapping[str, Any], *, colour: bool = False, width: int | None = None) -> str:
    """The summary as Markdown, one row for each scheme and attack.

    Parameters
    ----------
    document : mapping
        As `lineage mark bench --json` writes it.
    colour, width : ignored
        The text is the same everywhere: it is meant to be kept.

    Returns
    -------
    str
    """
    del colour, width
    lines = [
        (
            f"Marks in {safe(str(document['model']))} under the suite `{document['suite']}`, "
            f"{document['keys']} keys each; intervals are Wilson's at 95 %."
        ),
        "",
        "| scheme | attack | T, median | kept | found at 1e-6 | at 2^-128 | bit errors | payload | control alarms | distortion |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in document["summary"]]
    if document["skipped"]:
        lines += ["", "Not run:", ""]
        lines += [f"- {s['scheme']}, {s['attack']}: {safe(s['reason'])}" for s in document["skipped"]]
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    found = row["found"]["1e-6"]
    cells = [
        row["scheme"],
        row["attack"],
        f"{row['statistic']:.1f}",
        "" if row["kept"] is None else f"{row['kept']:.3f}",
        f"{found['n']}/{row['keys']} ({found['interval'][0]:.2f} to {found['interval'][1]:.2f})",
        f"{row['found']['2^-128']['n']}/{row['keys']}",
        "" if row["bit_error_rate"] is None else f"{row['bit_error_rate']:.3f}",
        "" if row["payload_ok"] is None else f"{row['payload_ok']}/{row['keys']}",
        f"{row['control_alarms']}/{row['controls']}",
        "" if row["distortion"] is None else f"{row['distortion']:.3g}",
    ]
    return f"| {' | '.join(cells)} |"


def bench_picture(document: Mapping[str, Any]) -> str:
    """How much of each mark every attack leaves: one line an attack, one dot a scheme, as SVG without outside parts.

    Parameters
    ----------
    document : mapping

    Returns
    -------
    str
    """
    summary = [row for row in document["summary"] if row["kept"] is not None]
    attacks = list(dict.fromkeys(row["attack"] for row in summary))
    schemes = list(dict.fromkeys(row["scheme"] for row in summary))
    height = _TOP + _ROW * len(attacks) + 40
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 40} {height}" '
            f'width="{_LEFT + _WIDTH + 40}" height="{height}" font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{_LEFT + _WIDTH + 40}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-weight="bold">share of the statistic that is left after an attack</text>',
    ]
    for i, scheme in enumerate(schemes):
        x = _LEFT + 90 * i
        parts.append(f'<circle cx="{x + 4}" cy="34" r="4" fill="{_COLOURS[i % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{x + 12}" y="38">{escape(scheme)}</text>')
    parts += _grid(height - 40)
    for row, attack in enumerate(attacks):
        parts.append(_label(attack, _TOP + _ROW * row + _ROW / 2))
        parts += _dots(summary, attack, schemes, _TOP + _ROW * row + _ROW / 2)
    return "\n".join([*parts, "</svg>", ""])


def _grid(bottom: float) -> list[str]:
    made = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + _WIDTH * share
        made.append(f'<line x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{bottom}" stroke="#dddddd"/>')
        made.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{share:g}</text>')
    return made


def _label(attack: str, y: float) -> str:
    return f'<text x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(attack)}</text>'


def _dots(summary: Sequence[Mapping[str, Any]], attack: str, schemes: Sequence[str], y: float) -> list[str]:
    made = []
    for row in summary:
        if row["attack"] != attack:
            continue
        share = min(1.05, max(-0.02, float(row["kept"])))
        colour = _COLOURS[schemes.index(row["scheme"]) % len(_COLOURS)]
        told = f"<title>{escape(row['scheme'])}, {escape(attack)}: {row['kept']:.3f}</title>"
        made.append(
            f'<circle cx="{_LEFT + _WIDTH * share:.1f}" cy="{y}" r="4" fill="{colour}" opacity="0.8">{told}</circle>'
        )
    return made
