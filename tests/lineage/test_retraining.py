"""Fine-tuning as an attack, and losses on a text, as commands offer them; what trains needs the extra `torch`."""

import json
from types import SimpleNamespace

import pytest
from jsonschema import Draft202012Validator

from lineage import retraining
from lineage.benching import BenchOptions, attacks_of, bench
from lineage.errors import MalformedDocumentError, UnreadableDocumentError, UsageError
from lineage.marking import keygen, mark
from lineage.report.marks import embed_text
from nulls import ROOT
from program import run


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(retraining, "find_spec", lambda _: None)


def test_names_of_attacks_that_train():
    assert [retraining.is_training(n) for n in ("tune-1", "lora-2500", "tune-0", "tune-", "tune-1x", "fine-tune")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert attacks_of("none,tune-50,lora-7") == ("none", "tune-50", "lora-7")
    with pytest.raises(UsageError, match="tune-0"):
        attacks_of("none,tune-0")


def test_a_text_is_read_up_to_a_bound(tmp_path, monkeypatch):
    path = tmp_path / "text"
    path.write_bytes(b"words")
    assert retraining.text_of(str(path)) == b"words"
    monkeypatch.setattr(retraining, "MOST_TEXT", 4)
    with pytest.raises(MalformedDocumentError, match="1 to 4 bytes"):
        retraining.text_of(str(path))
    path.write_bytes(b"")
    with pytest.raises(MalformedDocumentError):
        retraining.text_of(str(path))
    with pytest.raises(UnreadableDocumentError, match="no such file"):
        retraining.text_of(str(tmp_path / "none"))


def test_the_missing_extra_is_told_before_anything_is_written(no_torch, zoo, tmp_path):
    with pytest.raises(UsageError, match=r"extra `torch`; pip install 'lineage-forensics\[torch\]'"):
        bench(str(zoo / "llama-a"), BenchOptions(schemes=("dss",), suite="tune-5", text=b"words"))
    key = keygen("dss", "default", payload=b"", channel="0")
    with pytest.raises(UsageError, match="extra `torch`"):
        mark(str(zoo / "llama-a"), key, tmp_path / "copy", text=b"words")
    assert list(tmp_path.iterdir()) == []


def test_training_without_a_text_is_a_usage_error(zoo):
    done = run("mark", "bench", zoo / "llama-a", "--suite", "tune-5")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give --text FILE" in done.stderr
    assert run("mark", "bench", zoo / "llama-a", "--learning-rate", "2").returncode == 2


def test_only_folders_are_trained(monkeypatch, zoo):
    monkeypatch.setattr(retraining, "find_spec", lambda name: name)
    assert retraining.local_folder(str(zoo / "llama-a")) == zoo / "llama-a"
    for ref in (str(zoo / "llama-a" / "model.safetensors"), "org/name"):
        with pytest.raises(UsageError, match="local folder"):
            retraining.local_folder(ref)


def test_what_a_mark_costs_is_in_the_report():
    loss = SimpleNamespace(mean=1.5, perplexity=4.48, tokens=190, windows=[1, 2])
    after = SimpleNamespace(perplexity=4.49, above=lambda _: (0.0005, 0.0002))
    told = retraining.comparison(loss, after)
    schema = json.loads((ROOT / "schemas" / "mark-embed-1.json").read_text())["properties"]["text"]
    Draft202012Validator(schema).validate(told)
    fidelity = {"relative_change": 0.01, "rounding_noise": 0.001, "largest_row_change": 0.02}
    document = {"out": "x", "key_id": "k", "scheme": "dss", "carriers": 2, "fidelity": fidelity, "statistic": None}
    said = " ".join(embed_text(document | {"left_out": [], "text": told}, width=200).split())
    assert "perplexity 4.4800 before and 4.4900 after on 190 tokens; loss +0.050% ± 0.020%" in said


@pytest.mark.outside("torch")
def test_marks_are_found_after_fine_tuning(zoo):
    text = (ROOT / "docs" / "cli.md").read_bytes()
    options = BenchOptions(
        schemes=("dss", "gram"), suite="none,tune-30,lora-30", keys=1, informed=True, eps=0.05, text=text, lr=4e-4
    )
    document = bench(str(zoo / "llama-a"), options)
    schema = json.loads((ROOT / "schemas" / "mark-bench-1.json").read_text())
    Draft202012Validator(schema).validate(json.loads(json.dumps(document)))
    rows = {(r["scheme"], r["attack"]): r for r in document["summary"]}
    for scheme in ("dss", "gram"):
        for attack in ("tune-30", "lora-30"):
            row = rows[scheme, attack]
            assert row["found"]["2^-128"]["n"] == 1
            assert row["control_alarms"] == 0
            assert 0.5 < row["kept"] < 1.0
            assert 0.001 < row["distortion"] < 0.2
    assert bench(str(zoo / "llama-a"), options)["summary"][1]["statistic"] == document["summary"][1]["statistic"]


@pytest.mark.outside("torch")
def test_the_cost_of_a_mark_is_measured(zoo, tmp_path):
    key = keygen("dss", "default", payload=b"", channel="0")
    document, _ = mark(str(zoo / "llama-a"), key, tmp_path / "copy", text=(ROOT / "docs" / "cli.md").read_bytes())
    schema = json.loads((ROOT / "schemas" / "mark-embed-1.json").read_text())
    Draft202012Validator(schema).validate(document)
    assert abs(document["text"]["loss_change"]) < 0.002
    assert document["text"]["perplexity_after"] != document["text"]["perplexity_before"]
