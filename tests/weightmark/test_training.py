"""The room that needs torch: losses, fine-tuning, and published marks as training makes them (extra `torch`)."""

import numpy as np
import pytest

import train_marks_of as marks
from weightmark.errors import UnfitModelError

pytestmark = [pytest.mark.outside("torch"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def example(zoo, tmp_path):
    return marks.program().Example(zoo / "llama-a", tmp_path / "made", 60)


def test_the_loss_is_that_of_the_plain_forward_pass(zoo, example):
    import derive
    import forward

    tokens = example.held_out[:288].numpy()
    weights = derive.load(zoo / "llama-a" / "model.safetensors")
    wanted = []
    for start in (0, 96, 192):
        window = tokens[start : start + 96]
        logits = forward.logits(weights, window, n_heads=4, n_kv=2)[:-1]
        top = logits.max(-1)
        norm = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        wanted.append((norm - logits[np.arange(95), window[1:]]).mean())
    found = marks.program().loss_of(example.model, example.held_out[:288])
    assert found.windows == pytest.approx(wanted, abs=2e-5)
    assert found.tokens == 285
    assert found.perplexity == pytest.approx(np.exp(np.mean(wanted)), rel=1e-4)
    assert found.above(found) == (0.0, 0.0)


def test_an_update_of_low_rank_changes_linear_layers_by_no_more(example):
    from weightmark.training.tuning import Recipe, tune

    before = {name: p.detach().clone() for name, p in example.model.named_parameters()}
    first = marks.program().loss_of(example.model, example.text).mean
    tune(example.model, example.text, Recipe(steps=20, lr=2e-3, rank=2, size=8))
    for name, p in example.model.named_parameters():
        change = (p.detach() - before[name]).double().numpy()
        if change.ndim == 2 and "layers" in name:
            assert np.linalg.svd(change, compute_uv=False)[2] < 1e-5 * np.linalg.norm(change, 2)
        else:
            assert not change.any(), name
    assert marks.program().loss_of(example.model, example.text).mean < first


def test_the_same_recipe_gives_the_same_weights(zoo, tmp_path):
    made = []
    for _ in range(2):
        it = marks.program().Example(zoo / "llama-a", tmp_path / "made", 3)
        it.trained(1e-3)
        made.append((it.out / "model.safetensors").read_bytes())
    assert made[0] == made[1]


def test_a_regulariser_writes_the_bits(example):
    from weightmark.training.uchida import regulariser

    program = marks.program()
    assert example.found("uchida", folder=example.base)["verdict"] == "not-found"
    example.steps = 200
    example.trained(2e-3, penalty=regulariser(program.key_of("uchida", 0), example.views, 0.1))
    found = example.found("uchida")
    assert (found["verdict"], found["twenty_others"]) == ("found", "not-found")
    assert found["bit_errors"] <= 2


def test_values_at_keyed_positions_stay_while_the_model_learns(example):
    told = marks.program().hufunet(example)
    assert told["verify"]["verdict"] == "found"
    assert told["verify"]["statistic"] > 50
    assert told["loss_change"] < told["loss_change_untrained"]
    assert told["verify"]["twenty_others"] == "not-found"


def test_the_quantised_copy_of_a_model_trained_in_its_cells_stays(example):
    told = marks.program().quantgap(example)
    assert told["int8_codes_equal"]
    assert told["sentence_full_precision"] < told["sentence_before"] - 0.1
    assert abs(told["sentence_int8"] - told["sentence_before"]) < 0.02


def test_the_reading_of_a_text_is_the_slope_of_its_loss_along_the_key(example):
    import torch  # noqa: TID251 - a test of the room

    from weightmark.schemes.gaussmark import noise
    from weightmark.training.gaussmark import read_text
    from weightmark.training.losses import token_losses
    from weightmark.training.places import matrix, put

    program = marks.program()
    role = "L0003.mlp.up"
    batch = example.text[: 8 * 48].view(8, 48)
    parameters = dict(example.model.named_parameters())
    with torch.no_grad():
        start = matrix(parameters, example.views[role]).double().numpy()

    def slope(along, h=2e-3):
        ends = []
        for sign in (1, -1):
            put(parameters, example.views[role], start + sign * h * along)
            with torch.no_grad():
                ends.append(-token_losses(example.model(input_ids=batch).logits, batch).double().sum().item())
        put(parameters, example.views[role], start)
        return (ends[0] - ends[1]) / (2 * h)

    keys = [program.key_of("gaussmark", i) for i in range(12)]
    read = np.array([read_text(example.model, batch, key, example.views).test.statistic for key in keys])
    slopes = np.array([slope(noise(key.draws, role, start.shape)) for key in keys])
    assert read / slopes == pytest.approx(np.full(12, np.median(read / slopes)), rel=0.1)
    assert np.corrcoef(read, slopes)[0, 1] > 0.999
    assert np.abs(read).max() < 4


def test_models_that_cannot_be_trained_are_refused(zoo, tmp_path, example):
    from weightmark.training.models import opened, tokens_of

    with pytest.raises(UnfitModelError, match="sees the tokens"):
        opened(zoo / "bert-a")
    with pytest.raises(UnfitModelError, match="causal language model"):
        opened(tmp_path)
    with pytest.raises(UnfitModelError, match="too few for bytes"):
        tokens_of(tmp_path, b"text", 128)
    with pytest.raises(UnfitModelError, match="two windows"):
        marks.program().loss_of(example.model, example.text[:100])
