"""The architectures that are recognised: one row each, names of modules on the left, roles on the right.

How to read a row. `inside` maps the module names of one layer to recipes, `outside` those beside the stack, `heads`
those at the top of the file. A recipe is a role kind; ``a+b`` says that several arrays are stored one after the other
along the output axis, ``a*b`` that they alternate head by head. ``{e}`` stands for the number of an expert. A module's
``weight`` gets the kind, its ``bias`` the kind ``bias.<kind>``.

A model is recognised by a row only when every layer holds everything in `needs` and nothing that the row does not
name: an unknown parameter inside a layer may change what the others mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Positions = Literal["rotary", "learned", "alibi", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One architecture.

    Attributes
    ----------
    name : str
    roots : tuple of str
        What may stand before the stack; the longest that fits is taken.
    stack : str
        Between root and layer number.
    inside, outside, heads : mapping
        Module name -> recipe.
    needs : tuple of str
        Kinds every layer must hold.
    glu : bool
        The MLP is gated.
    mlp_norm, attn_norm : str or None
        Kind of the norm whose output feeds the MLP, and the attention; None where the residual itself does.
    norm_type : {"rms", "layer"}
    positions : {"rotary", "learned", "alibi", "none"}
    conv1d : bool
        Matrices inside the layers are stored ``[in, out]``.
    offset : float
        1.0 where gains are stored as g - 1.
    refuses : tuple of str
        Beginnings of names that show that it is another architecture with the same encoder.
    """

    name: str
    roots: tuple[str, ...]
    stack: str
    inside: Mapping[str, str]
    outside: Mapping[str, str]
    heads: Mapping[str, str]
    needs: tuple[str, ...]
    glu: bool
    mlp_norm: str | None
    attn_norm: str | None
    norm_type: Literal["rms", "layer"]
    positions: Positions
    conv1d: bool = False
    offset: float = 0.0
    refuses: tuple[str, ...] = field(default=())


# Wrappers of multimodal models: with them gone, a language model has its usual names.
_DECODER_ROOTS = (
    "model.",
    "",
    "language_model.model.",
    "model.language_model.",
    "model.language_model.model.",
    "model.text_model.",
    "language_model.",
)
_HEAD = {"lm_head": "unembed"}
_LM_HEADS = {**_HEAD, "language_model.lm_head": "unembed", "model.language_model.lm_head": "unembed"}
_DECODER_OUTSIDE = {"embed_tokens": "embed", "norm": "norm.final"}
_ATTENTION = {
    "self_attn.q_proj": "attn.q",
    "self_attn.k_proj": "attn.k",
    "self_attn.v_proj": "attn.v",
    "self_attn.o_proj": "attn.o",
    "self_attn.q_norm": "norm.q",
    "self_attn.k_norm": "norm.k",
}
_PRE_NORMS = {"input_layernorm": "norm.attn_in", "post_attention_layernorm": "norm.mlp_in"}
_GLU = {"mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}
_QKVO = ("attn.q", "attn.k", "attn.v", "attn.o")
_NEEDS = (*_QKVO, "mlp.up", "mlp.down", "norm.attn_in", "norm.mlp_in")
_BERT_LAYER = {"attention.output.dense": "attn.o", "intermediate.dense": "mlp.up", "output.dense": "mlp.down"}

ROWS: tuple[Row, ...] = (
    Row(
        name="bert",
        roots=("bert.", "roberta.", "electra.", ""),
        stack="encoder.layer.",
        inside={
            **_BERT_LAYER,
            "attention.self.query": "attn.q",
            "attention.self.key": "attn.k",
            "attention.self.value": "attn.v",
            "attention.output.LayerNorm": "norm.attn_out",
            "output.LayerNorm": "norm.mlp_out",
        },
        outside={
            "embeddings.word_embeddings": "embed",
            "embeddings.position_embeddings": "embed.position",
            "embeddings.token_type_embeddings": "embed.type",
            "embeddings.LayerNorm": "norm.embed",
        },
        heads={
            "cls.predictions.decoder": "unembed",
            "cls.predictions.bias": "bias.unembed",
            "lm_head.decoder": "unembed",
            "lm_head.bias": "bias.unembed",
        },
        needs=(*_QKVO, "mlp.up", "mlp.down", "norm.attn_out", "norm.mlp_out"),
        glu=False,
        mlp_norm="norm.attn_out",
        attn_norm="norm.mlp_out",  # of the layer below; the first attention reads norm.embed
        norm_type="layer",
        positions="learned",
        refuses=("decoder.",),
    ),
    Row(
        name="gemma2",  # and Gemma 3, which adds norms of queries and keys
        roots=_DECODER_ROOTS,
        stack="layers.",
        inside={
            **_ATTENTION,
            **_GLU,
            "input_layernorm": "norm.attn_in",
            "post_attention_layernorm": "norm.attn_out",
            "pre_feedforward_layernorm": "norm.mlp_in",
            "post_feedforward_layernorm": "norm.mlp_out",
        },
        outside=_DECODER_OUTSIDE,
        heads=_LM_HEADS,
        needs=(*_NEEDS, "mlp.gate", "norm.attn_out", "norm.mlp_out"),
        glu=True,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="rms",
        positions="rotary",
        offset=1.0,
    ),
    Row(
        name="gpt2",
        roots=("transformer.", ""),
        stack="h.",
        inside={
            "ln_1": "norm.attn_in",
            "attn.c_attn": "attn.q+attn.k+attn.v",
            "attn.c_proj": "attn.o",
            "ln_2": "norm.mlp_in",
            "mlp.c_fc": "mlp.up",
            "mlp.c_proj": "mlp.down",
        },
        outside={"wte": "embed", "wpe": "embed.position", "ln_f": "norm.final"},
        heads=_HEAD,
        needs=_NEEDS,
        glu=False,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="layer",
        positions="learned",
        conv1d=True,
    ),
    Row(
        name="gpt_neox",
        roots=("gpt_neox.", ""),
        stack="layers.",
        inside={
            "input_layernorm": "norm.attn_in",
            "post_attention_layernorm": "norm.mlp_in",
            "attention.query_key_value": "attn.q*attn.k*attn.v",
            "attention.dense": "attn.o",
            "mlp.dense_h_to_4h": "mlp.up",
            "mlp.dense_4h_to_h": "mlp.down",
        },
        outside={"embed_in": "embed", "final_layer_norm": "norm.final"},
        heads={"embed_out": "unembed", "lm_head": "unembed"},
        needs=_NEEDS,
        glu=False,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="layer",
        positions="rotary",
    ),
    Row(
        name="llama",  # Llama, Mistral, Qwen 2 and 3, Yi; Gemma 1 has these names too
        roots=_DECODER_ROOTS,
        stack="layers.",
        inside={**_ATTENTION, **_GLU, **_PRE_NORMS},
        outside=_DECODER_OUTSIDE,
        heads=_LM_HEADS,
        needs=(*_NEEDS, "mlp.gate"),
        glu=True,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="rms",
        positions="rotary",
    ),
    Row(
        name="mixtral",
        roots=_DECODER_ROOTS,
        stack="layers.",
        inside={
            **_ATTENTION,
            **_PRE_NORMS,
            "block_sparse_moe.gate": "router",
            "block_sparse_moe.experts.{e}.w1": "mlp.gate",
            "block_sparse_moe.experts.{e}.w3": "mlp.up",
            "block_sparse_moe.experts.{e}.w2": "mlp.down",
        },
        outside=_DECODER_OUTSIDE,
        heads=_LM_HEADS,
        needs=(*_NEEDS, "mlp.gate", "router"),
        glu=True,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="rms",
        positions="rotary",
    ),
    Row(
        name="olmo2",  # norms stand behind attention and MLP, which read the residual itself
        roots=_DECODER_ROOTS,
        stack="layers.",
        inside={
            **_ATTENTION,
            **_GLU,
            "post_attention_layernorm": "norm.attn_out",
            "post_feedforward_layernorm": "norm.mlp_out",
        },
        outside=_DECODER_OUTSIDE,
        heads=_LM_HEADS,
        needs=(*_QKVO, "mlp.gate", "mlp.up", "mlp.down", "norm.attn_out", "norm.mlp_out"),
        glu=True,
        mlp_norm=None,
        attn_norm=None,
        norm_type="rms",
        positions="rotary",
    ),
    Row(
        name="opt",
        roots=("model.decoder.", "decoder."),
        stack="layers.",
        inside={
            "self_attn.q_proj": "attn.q",
            "self_attn.k_proj": "attn.k",
            "self_attn.v_proj": "attn.v",
            "self_attn.out_proj": "attn.o",
            "self_attn_layer_norm": "norm.attn_in",
            "fc1": "mlp.up",
            "fc2": "mlp.down",
            "final_layer_norm": "norm.mlp_in",
        },
        outside={"embed_tokens": "embed", "embed_positions": "embed.position", "final_layer_norm": "norm.final"},
        heads=_HEAD,
        needs=_NEEDS,
        glu=False,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="layer",
        positions="learned",
        # the smallest OPT but one projects in and out and puts its norms behind; encoders make it another model
        refuses=("model.decoder.project_", "decoder.project_", "model.encoder.", "encoder."),
    ),
    Row(
        name="phi3",
        roots=_DECODER_ROOTS,
        stack="layers.",
        inside={
            **_PRE_NORMS,
            "self_attn.qkv_proj": "attn.q+attn.k+attn.v",
            "self_attn.o_proj": "attn.o",
            "mlp.gate_up_proj": "mlp.gate+mlp.up",
            "mlp.down_proj": "mlp.down",
        },
        outside=_DECODER_OUTSIDE,
        heads=_LM_HEADS,
        needs=(*_NEEDS, "mlp.gate"),
        glu=True,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="rms",
        positions="rotary",
    ),
    Row(
        name="qwen_moe",  # Qwen 2 and 3 with experts; some layers may be dense
        roots=_DECODER_ROOTS,
        stack="layers.",
        inside={
            **_ATTENTION,
            **_GLU,
            **_PRE_NORMS,
            "mlp.gate": "router",
            "mlp.experts.{e}.gate_proj": "mlp.gate",
            "mlp.experts.{e}.up_proj": "mlp.up",
            "mlp.experts.{e}.down_proj": "mlp.down",
            "mlp.experts.gate_up_proj": "mlp.gate+mlp.up",
            "mlp.experts.down_proj": "mlp.down",
            **{f"mlp.{s}.gate_proj": "mlp.shared.gate" for s in ("shared_expert", "shared_experts")},
            **{f"mlp.{s}.up_proj": "mlp.shared.up" for s in ("shared_expert", "shared_experts")},
            **{f"mlp.{s}.down_proj": "mlp.shared.down" for s in ("shared_expert", "shared_experts")},
            "mlp.shared_expert_gate": "router.shared",
        },
        outside=_DECODER_OUTSIDE,
        heads=_LM_HEADS,
        needs=(*_NEEDS, "mlp.gate"),
        glu=True,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="rms",
        positions="rotary",
    ),
    Row(
        name="vit",
        roots=("vit.", ""),
        stack="encoder.layer.",
        inside={
            **_BERT_LAYER,
            "attention.attention.query": "attn.q",
            "attention.attention.key": "attn.k",
            "attention.attention.value": "attn.v",
            "layernorm_before": "norm.attn_in",
            "layernorm_after": "norm.mlp_in",
        },
        outside={
            "embeddings.patch_embeddings.projection": "embed.patch",
            "embeddings.position_embeddings": "embed.position",
            "embeddings.cls_token": "embed.cls",
            "layernorm": "norm.final",
        },
        heads={"classifier": "unembed"},
        needs=_NEEDS,
        glu=False,
        mlp_norm="norm.mlp_in",
        attn_norm="norm.attn_in",
        norm_type="layer",
        positions="learned",
        # a decoder beside it: a masked autoencoder, whose position table is fixed (arXiv:2111.06377)
        refuses=("decoder.", "model.decoder."),
    ),
)
