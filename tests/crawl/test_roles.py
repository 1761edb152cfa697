"""Names and shapes to roles: every row on a model of its kind, and nothing on models that only look like one."""

import numpy as np
import pytest

from crawl import Role

D, H, N = 8, 12, 2


def test_known_architecture_is_recognised_and_every_layer_array_has_a_role(known, weights, open_arrays):
    label, name, shapes = known
    source = open_arrays(weights(shapes), num_attention_heads=N, num_key_value_heads=N)
    assert source.architecture is not None, next(iter(source.unmapped.values()))
    assert (source.architecture.name, source.architecture.n_layers, source.architecture.width) == (name, 2, D), label
    mapped = {view.tensor.name for view in source.views.values()}
    assert mapped | set(source.unmapped) == set(shapes)
    assert not mapped & set(source.unmapped)
    for tensor in source.unmapped:
        assert any(word in tensor for word in ("pooler", "transform", "predictions", "vision", "visual", "attn.bias"))


def test_every_view_equals_its_slice_of_the_stored_array(known, weights, open_arrays):
    _, _, shapes = known
    arrays = weights(shapes)
    source = open_arrays(arrays, num_attention_heads=N)
    for role, view in source.views.items():
        stored = arrays[view.tensor.name]
        if len(view.shape) == 1:
            expected = stored.reshape(-1)[view.pick.stored(np.arange(view.shape[0]))] + np.float32(view.offset)
            assert np.array_equal(source.view_vector(view), expected), role
            continue
        plane = stored.reshape(-1, view.stored_columns)
        n_in = view.shape[1]
        block = plane[view.base : view.base + n_in].T if view.transposed else plane[view.base :]
        expected = block[view.pick.stored(np.arange(view.shape[0]))]
        whole = source.view_rows(view, np.arange(view.shape[0]))
        assert np.array_equal(whole, expected), role
        assert np.array_equal(source.view_columns(view, np.arange(n_in)), expected), role
        assert whole.flags.c_contiguous
        assert not whole.flags.writeable


def test_unknown_model_has_no_architecture_and_says_why(unknown, weights, open_arrays):
    label, shapes = unknown
    shapes = shapes or {"x": (2,)}
    source = open_arrays(weights(shapes), num_attention_heads=N, model_type="llama")
    assert source.architecture is None, label
    assert not source.views
    assert set(source.unmapped) == set(shapes)
    assert all(source.unmapped.values())


def test_phi3_is_split_into_queries_keys_values_gates_and_ups(shapes, weights, open_arrays):
    arrays = weights(shapes["phi3"])
    source = open_arrays(arrays)
    fused = arrays["model.layers.1.self_attn.qkv_proj.weight"]
    for kind, part in (("attn.q", fused[:8]), ("attn.k", fused[8:12]), ("attn.v", fused[12:])):
        assert np.array_equal(source.view_rows(source.views[Role(kind, 1)], range(len(part))), part)
    both = arrays["model.layers.0.mlp.gate_up_proj.weight"]
    assert np.array_equal(source.view_rows(source.views[Role("mlp.gate", 0)], range(H)), both[:H])
    assert np.array_equal(source.view_rows(source.views[Role("mlp.up", 0)], range(H)), both[H:])


def test_gpt2_arrays_come_out_turned(shapes, weights, open_arrays):
    arrays = weights(shapes["gpt2"])
    source = open_arrays(arrays)
    fused = arrays["transformer.h.0.attn.c_attn.weight"]
    assert np.array_equal(source.view_rows(source.views[Role("attn.k", 0)], range(D)), fused[:, D : 2 * D].T)
    bias = arrays["transformer.h.0.attn.c_attn.bias"]
    assert np.array_equal(source.view_vector(source.views[Role("bias.attn.v", 0)]), bias[2 * D :])
    down = source.views[Role("mlp.down", 1)]
    assert down.shape == (D, H)
    assert np.array_equal(source.view_columns(down, [3]), arrays["transformer.h.1.mlp.c_proj.weight"][[3]].T)


def test_neox_heads_are_taken_apart(shapes, weights, open_arrays):
    arrays = weights(shapes["pythia"])
    source = open_arrays(arrays, num_attention_heads=N)
    fused = arrays["gpt_neox.layers.1.attention.query_key_value.weight"].reshape(N, 3, D // N, D)
    bias = arrays["gpt_neox.layers.1.attention.query_key_value.bias"].reshape(N, 3, D // N)
    for i, kind in enumerate(("attn.q", "attn.k", "attn.v")):
        got = source.view_rows(source.views[Role(kind, 1)], range(D))
        assert np.array_equal(got, fused[:, i].reshape(D, D))
        assert np.array_equal(source.view_vector(source.views[Role(f"bias.{kind}", 1)]), bias[:, i].reshape(D))
    assert "n_heads: num_attention_heads" in source.architecture.hints


@pytest.mark.parametrize("heads", [None, 5, 0, -1, "2", True, 10**9])
def test_neox_without_a_usable_head_count_keeps_its_mlp(shapes, weights, open_arrays, heads):
    source = open_arrays(weights(shapes["pythia"]), num_attention_heads=heads)
    assert source.architecture.name == "gpt_neox"
    assert Role("attn.q", 0) not in source.views
    assert Role("mlp.up", 0) in source.views
    assert "head" in source.unmapped["gpt_neox.layers.0.attention.query_key_value.weight"]


def test_gemma1_gain_comes_from_a_claim_and_says_so(shapes, weights, open_arrays):
    arrays = weights(shapes["llama tied"])
    claimed, plain = open_arrays(arrays, model_type="gemma"), open_arrays(arrays, model_type="llama")
    role = Role("norm.mlp_in", 0)
    stored = arrays["model.layers.0.post_attention_layernorm.weight"]
    assert np.array_equal(claimed.view_vector(claimed.views[role]), stored + np.float32(1))
    assert np.array_equal(claimed.view_vector(claimed.views[role], stored=True), stored)
    assert np.array_equal(plain.view_vector(plain.views[role]), stored)
    assert claimed.views[role].offset_source == "claim"
    assert any("model_type" in hint for hint in claimed.architecture.hints)
    assert not any("model_type" in hint for hint in plain.architecture.hints)
    inner = open_arrays(arrays, model_type="paligemma", text_config={"model_type": "gemma"})
    assert inner.views[role].offset == 1.0


def test_gemma2_gain_is_known_from_names(shapes, weights, open_arrays):
    source = open_arrays(weights(shapes["gemma2"]))
    assert source.views[Role("norm.final")].offset == 1.0
    assert source.views[Role("norm.final")].offset_source == "names"
    assert source.views[Role("mlp.up", 0)].offset == 0.0


def test_norms_say_what_feeds_the_mlp(shapes, weights, open_arrays):
    expected = {"llama": ("norm.mlp_in", "rms"), "bert": ("norm.attn_out", "layer"), "olmo2": (None, "rms")}
    for label, (norm, kind) in expected.items():
        architecture = open_arrays(weights(shapes[label])).architecture
        assert (architecture.mlp_norm, architecture.norm_type) == (norm, kind)


@pytest.mark.parametrize(
    ("claimed", "expected"), [(2, (2, 1)), (4, (4, 2)), (1, (None, None)), (3, (None, None)), (None, (None, None))]
)
def test_key_heads_follow_from_shapes_and_a_claim_that_fits(shapes, weights, open_arrays, claimed, expected):
    architecture = open_arrays(weights(shapes["phi3"]), num_attention_heads=claimed).architecture
    assert (architecture.n_heads, architecture.n_kv) == expected
    assert bool(architecture.hints) == (expected[0] is not None)


def test_roles_sort_as_their_text():
    roles = [Role("norm.final"), Role("mlp.up", 10), Role("mlp.up", 9), Role("mlp.up", 9, 1), Role("embed")]
    assert [str(r) for r in sorted(roles)] == sorted(str(r) for r in roles)


def test_stacked_experts_are_taken_apart(shapes, weights, open_arrays):
    arrays = weights(shapes["stacked"])
    source = open_arrays(arrays)
    both, down = arrays["model.layers.1.mlp.experts.gate_up_proj"], arrays["model.layers.1.mlp.experts.down_proj"]
    for e in range(3):
        for kind, expected in (("gate", both[e, :, :H].T), ("up", both[e, :, H:].T), ("down", down[e].T)):
            view = source.views[Role(f"mlp.{kind}", 1, e)]
            assert np.array_equal(source.view_rows(view, range(view.shape[0])), expected)


def test_stacked_experts_may_lie_the_other_way(shapes, weights, open_arrays):
    arrays = weights(shapes["stacked"])
    turned = {n: np.ascontiguousarray(a.swapaxes(1, 2)) if a.ndim == 3 else a for n, a in arrays.items()}
    one, two = open_arrays(arrays), open_arrays(turned)
    assert set(one.views) == set(two.views)
    for role in (Role("mlp.up", 0, 2), Role("mlp.down", 1, 1)):
        index = range(one.views[role].shape[0])
        assert np.array_equal(one.view_rows(one.views[role], index), two.view_rows(two.views[role], index))


def test_tied_head_and_experts(shapes, weights, open_arrays):
    assert open_arrays(weights(shapes["llama tied"])).architecture.tied_head
    assert not open_arrays(weights(shapes["llama"])).architecture.tied_head
    source = open_arrays(weights(shapes["qwen-moe"]))
    assert {Role("mlp.up", 1, 2), Role("router", 0), Role("mlp.shared.up", 0), Role("router.shared", 1)} <= set(
        source.views
    )
    assert Role("mlp.up", 1) not in source.views


def test_quantised_weights_keep_their_architecture_but_have_no_role(shapes, weights, open_arrays):
    arrays = weights(shapes["llama"])
    for name in [n for n in arrays if n.endswith("_proj.weight")]:
        module = name.removesuffix(".weight")
        del arrays[name]
        arrays[f"{module}.qweight"] = np.zeros((1, 4), np.int32)
        arrays[f"{module}.scales"] = np.zeros((1, 4), np.float32)
    source = open_arrays(arrays)
    assert source.architecture.name == "llama"
    assert Role("mlp.up", 0) not in source.views
    assert "quantised" in source.unmapped["model.layers.0.mlp.up_proj.qweight"]
    assert Role("norm.mlp_in", 0) in source.views


def test_scaled_and_integer_weights_have_no_role(shapes, weights, open_arrays):
    arrays = weights(shapes["llama"])
    arrays["model.layers.0.mlp.up_proj.weight_scale_inv"] = np.ones((1, 1), np.float32)
    arrays["model.layers.1.mlp.up_proj.weight"] = np.zeros((H, D), np.uint8)
    source = open_arrays(arrays)
    assert source.architecture.name == "llama"
    assert Role("mlp.up", 0) not in source.views
    assert "U8" in source.unmapped["model.layers.1.mlp.up_proj.weight"]


def test_other_root_and_position_of_tensors_does_not_matter(shapes, weights, open_arrays):
    arrays = weights(shapes["llama"])
    backwards = open_arrays(dict(reversed(arrays.items())))
    assert set(backwards.views) == set(open_arrays(arrays).views)
