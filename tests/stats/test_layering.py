"""Layer maps against loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stats.layering import layer_map, stack_cosines


def stack(seed, n, rows=6):
    rng = np.random.default_rng(seed)
    return [{"attn.q": rng.normal(size=(rows, 40)), "mlp.up": rng.normal(size=(2 * rows, 40))} for _ in range(n)]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_any_order_of_layers_is_found(seed, order):
    a = stack(seed, 5)
    found = layer_map(stack_cosines(a, [a[i] for i in order], (("attn.q",), ("mlp.up",))))
    assert list(found.sources) == order
    assert found.whole
    assert found.distinct == (len(set(order)) == len(order))
    assert found.rising == (order == sorted(order))


def test_cosines_are_those_of_a_loop_and_the_best_group_counts():
    a, b = stack(0, 3), stack(1, 2)
    b[0]["attn.q"] = a[2]["attn.q"] + 0.5 * b[0]["attn.q"]
    found = stack_cosines(a, b, (("attn.q",), ("mlp.up",)))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            each = [np.sum(x[k] * y[k]) / np.linalg.norm(x[k]) / np.linalg.norm(y[k]) for k in ("attn.q", "mlp.up")]
            assert np.isclose(found[i, j], max(0.0, *each))
    assert layer_map(found).sources == (2, None)


def test_fewer_rows_are_compared_with_the_first_ones():
    a = stack(0, 2)
    short = [{"attn.q": layer["attn.q"][:3]} for layer in a]
    assert layer_map(stack_cosines(a, short, (("attn.q",),))).sources == (0, 1)


def test_zeros_other_widths_and_nothing():
    a = stack(0, 2)
    assert layer_map(stack_cosines(a, [{"attn.q": np.zeros((6, 40))}], (("attn.q",),))).sources == (None,)
    assert layer_map(stack_cosines(a, [{"attn.q": np.ones((6, 8))}], (("attn.q",),))).sources == (None,)
    assert layer_map(stack_cosines(a, [], (("attn.q",),))).sources == ()
    assert layer_map(stack_cosines([], a, (("attn.q",),))).sources == (None, None)


def test_among_equal_layers_the_one_that_follows_is_taken():
    a = stack(0, 2)
    twice = [a[0], a[1], a[0], a[1]]
    assert layer_map(stack_cosines(twice, [a[0], a[1]], (("attn.q",),))).sources == (0, 1)
    assert layer_map(stack_cosines(twice, twice, (("attn.q",),))).sources == (0, 1, 2, 3)
