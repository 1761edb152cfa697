"""The picture, measured: nothing lies on anything else, every model is there, both shades, for readers of all kinds."""

import html
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forests import document, entry_of_edge, entry_of_node, forest, open_link
from lineage.export import EXPORTERS, contents_of
from lineage.export.drawing import drawing_of
from lineage.export.layers import layered
from lineage.export.ordering import n_crossings, ordered
from lineage.export.packing import packed
from lineage.export.placing import placed
from lineage.export.plan import SMALL_SIZE, STACK, plan_of, text_width
from lineage.names import safe

CASES = [(5, 1), (5, 2), (30, 1), (30, 2), (30, 4), (100, 3), (100, 4), (300, 5)]
SVG = "{http://www.w3.org/2000/svg}"


def picture(made):
    return EXPORTERS["svg"](contents_of(made))


def families(made):
    drawing = drawing_of(contents_of(made))
    return [plan_of(f, drawing.copies) for f in drawing.families]


def rectangle(box):
    """(left, top, right, bottom) with its sheets."""
    out = box.sheets * STACK
    return box.x, box.y, box.x + box.width + out, box.y + box.height + out


def is_apart(one, other):
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def flattened(route, n=24):
    """Points along a path."""
    (x, y), *steps = route.path
    yield x, y
    for step in steps:
        if len(step) == 2:
            ends = [(x + (step[0] - x) * t / n, y + (step[1] - y) * t / n) for t in range(1, n + 1)]
        else:
            x1, y1, x2, y2, x3, y3 = step
            ends = []
            for t in (i / n for i in range(1, n + 1)):
                a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
                ends.append((a * x + b * x1 + c * x2 + d * x3, a * y + b * y1 + c * y2 + d * y3))
        yield from ends
        x, y = ends[-1]


def label_of(route):
    """Where its label is, at its widest."""
    width = text_width(route.label, SMALL_SIZE)
    return route.label_x - width, route.label_y - 0.8 * SMALL_SIZE, route.label_x, route.label_y + 0.2 * SMALL_SIZE


@pytest.mark.parametrize(("n", "seed"), CASES)
def test_boxes_and_labels_lie_apart_and_inside(n, seed):
    for plan in families(forest(n, seed)):
        shapes = [rectangle(b) for b in plan.boxes] + [label_of(r) for r in plan.routes if r.label]
        assert all(is_apart(a, b) for a, b in combinations(shapes, 2))
        for left, top, right, bottom in shapes:
            assert left >= -0.1
            assert top >= -0.1
            assert right <= plan.width + 2 * STACK + 0.1
            assert bottom <= plan.height + 0.1


@pytest.mark.parametrize(("n", "seed"), CASES)
def test_no_line_runs_through_a_box_or_a_label(n, seed):
    for plan in families(forest(n, seed)):
        boxes = [rectangle(b) for b in plan.boxes]
        labels = [(r, label_of(r)) for r in plan.routes if r.label]
        for route in plan.routes:
            points = list(flattened(route))
            near = [b for b in boxes if b[0] < points[-1][0] + 1 and b[2] > points[0][0] - 1]
            for x, y in points[1:-1]:
                assert not any(b[0] + 0.1 < x < b[2] - 0.1 - 2 * STACK and b[1] < y < b[3] for b in near), route.line
                assert not any(m[0] < x < m[2] and m[1] < y < m[3] for r, m in labels if r is not route), route.line


@pytest.mark.parametrize(("n", "seed"), CASES)
def test_lines_start_and_end_at_their_boxes_and_never_go_back(n, seed):
    for plan in families(forest(n, seed)):
        box_of = {b.model.id if b.model else b.joint.key: b for b in plan.boxes}
        for route in plan.routes:
            source, target = box_of[route.line.source], box_of[route.line.target]
            points = list(flattened(route))
            assert points[0] == (source.x + source.width, source.y + source.height / 2)
            assert points[-1][0] == target.x
            assert target.y < points[-1][1] < target.y + target.height
            assert all(b[0] >= a[0] - 1e-9 for a, b in pairwise(points))


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=25))
    )
)
def test_any_lines_are_laid_out(drawn):
    n, pairs = drawn
    lines = sorted((a, b) for a, b in pairs if a < b)
    net = layered(n, lines)
    assert all(net.layer[b] > net.layer[a] for a, b in lines)
    assert all(net.layer[q] == net.layer[p] + 1 for path in net.paths for p, q in pairwise(path))
    order = ordered(net)
    assert sorted(i for row in order for i in row) == list(range(len(net.layer)))
    assert all(net.layer[i] == r for r, row in enumerate(order) for i in row)
    assert n_crossings(net, order) == crossings_one_by_one(net, order)
    heights = [10.0 + (i % 3) for i in range(len(net.layer))]
    y = placed(net, order, heights, 4.0, {})
    for row in order:
        assert all(y[b] - y[a] >= (heights[a] + heights[b]) / 2 + 4.0 - 1e-6 for a, b in pairwise(row))
    assert min(v - h / 2 for v, h in zip(y, heights, strict=True)) == pytest.approx(0.0)


def crossings_one_by_one(net, order):
    place = {i: k for row in order for k, i in enumerate(row)}
    steps = [(net.layer[p], place[p], place[q]) for path in net.paths for p, q in pairwise(path)]
    return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in combinations(steps, 2))


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_has_no_crossing_and_crossings_of_others_become_fewer(seed):
    import numpy as np

    rng = np.random.default_rng(seed)
    tree = layered(60, [(int(rng.integers(0, i)), i) for i in range(1, 60)])
    assert n_crossings(tree, ordered(tree)) == 0
    lines = sorted({tuple(sorted(map(int, rng.choice(20, 2, replace=False)))) for _ in range(40)})
    net = layered(20, lines)
    plain = [[i for i in range(len(net.layer)) if net.layer[i] == r] for r in range(net.n_layers)]
    assert n_crossings(net, ordered(net)) < n_crossings(net, plain)


def test_a_parent_stands_in_the_middle_of_its_children():
    edges = [entry_of_edge("p", c) for c in "abcde"]
    (plan,) = families(document([entry_of_node(n, 0) for n in "abcdep"], edges))
    middle = {b.model.id: b.y + b.height / 2 for b in plan.boxes}
    assert middle["p"] == pytest.approx(middle["c"])


@given(st.lists(st.tuples(st.floats(10, 900), st.floats(10, 900)), max_size=25))
def test_panels_never_overlap_and_fit_the_page(sizes):
    places, width, height = packed(sizes, 10.0)
    shapes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(places, sizes, strict=True)]
    assert all(is_apart(a, b) for a, b in combinations(shapes, 2))
    assert all(s[2] <= width + 1e-6 and s[3] <= height + 1e-6 for s in shapes)


@pytest.mark.parametrize(("n", "seed"), CASES)
def test_every_model_is_named_whole_and_the_picture_speaks(n, seed):
    made = forest(n, seed)
    root = ET.fromstring(picture(made))  # noqa: S314 - our own
    assert root.get("role") == "img"
    named = {e.get("id"): e.text for e in root if e.get("id")}
    assert root.get("aria-labelledby").split() == list(named)
    assert named["lineage-title"] == f"Family tree of {n_models(made)} models"
    assert named["lineage-desc"].startswith(f"{n_models(made)} models: ")
    told = "\n".join(t.text for t in root.iter(f"{SVG}title"))
    for node in made["nodes"]:
        assert f"{safe(node['id'])}" in told.replace("identical: ", "").split("\n")


def n_models(made):
    return len(made["nodes"])


def test_the_file_asks_for_nothing_from_outside():
    text = picture(forest(100, 3))
    assert not re.search(r"<script|<image|<use|<foreignObject|href|url\(|@import|\bon\w+=", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "prefers-color-scheme:dark" in text


def test_marks_of_the_legend_are_those_that_are_there():
    edges = [entry_of_edge("a", "b"), entry_of_edge("~v", "a"), entry_of_edge("b", "m", "merge", coefficient=0.3)]
    nodes = [entry_of_node(n, 0) for n in "abcmx"] + [entry_of_node("~v", 0, virtual=True)]
    nodes.append(entry_of_node("twin", 0, duplicate_of="b"))
    full = picture(document(nodes, edges, [open_link("b", "c"), open_link("c", "x", "shared-init")]))
    entries = ("share of a merge", "direction undetermined", "a common start", "identical copies", "inferred ancestor")
    assert all(words in full for words in entries)
    assert "merge \N{MULTIPLICATION SIGN}0.3 0.90" in full
    plain = picture(document([entry_of_node(n, 0) for n in "ab"], [entry_of_edge("a", "b")]))
    assert not any(words in plain for words in entries)
    assert "parent to child: kind, probability" in plain


PROGRAM = """
<body style="margin:0">%s<pre id="told"></pre><script>
const shapes = [];
for (const [name, query] of [['box', '.box'], ['text', '.name,.detail,.label,.heading,.title,.told']])
  for (const e of document.querySelectorAll(query)) {
    const r = e.getBoundingClientRect();
    if (r.width) shapes.push({name, owner: e.parentNode, text: e.textContent, l: r.left, t: r.top, r: r.right, b: r.bottom});
  }
const out = [];
for (let i = 0; i < shapes.length; i++) for (let j = i + 1; j < shapes.length; j++) {
  const a = shapes[i], b = shapes[j], inside = a.owner === b.owner && a.name !== b.name;
  const over = Math.min(a.r, b.r) - Math.max(a.l, b.l) > 0.5 && Math.min(a.b, b.b) - Math.max(a.t, b.t) > 3;
  if (over && !inside) out.push([a.text, b.text]);
  if (inside && a.name === 'box' && (b.l < a.l || b.r > a.r || b.t < a.t || b.b > a.b)) out.push(['out of its box', b.text]);
}
document.getElementById('told').textContent = JSON.stringify({n: shapes.length, out});
</script></body>
"""


@pytest.mark.outside("chromium")
@pytest.mark.parametrize(("n", "seed"), CASES)
def test_a_browser_finds_no_text_on_another(tmp_path, n, seed):
    page = tmp_path / "page.html"
    page.write_text(f'<meta charset="utf-8">{PROGRAM % picture(forest(n, seed))}')
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    told = json.loads(html.unescape(re.search(r'<pre id="told">(.*?)</pre>', done.stdout)[1]))
    assert told["n"] > 2 * n
    assert told["out"] == []
