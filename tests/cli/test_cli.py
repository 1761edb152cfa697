import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import derive
from lineage.cli.app import app
from program import Done, process, run

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "fixtures" / "zoo"


def words(text):
    """Text without its line breaks."""
    return " ".join(text.split())


def timeless(text):
    return re.sub(r"\d+\.\d+\s+s\.\n$", "", text)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["compare", ZOO / "bert-a", ZOO / "bert-a-ft"], 0),
        (["compare", ZOO / "micro-00", "/no/such/model", "--json"], 3),
        (["compare", "--alpha", "2", "a", "b"], 2),
    ],
    ids=["answer", "failure", "usage"],
)
def test_a_process_says_what_a_call_says(args, code):
    """Exit code and both streams, the seconds it took apart: the other tests of the command line call it."""
    whole, called = process(*args), run(*args)
    assert (whole.returncode, called.returncode) == (code, code)
    assert timeless(whole.stdout) == timeless(called.stdout)
    assert whole.stderr == called.stderr


def test_related_pair_as_text_and_json():
    done = run("compare", ZOO / "llama-a", ZOO / "llama-a-ft1")
    assert done.returncode == 0
    assert done.stdout.startswith("RELATED: ")
    assert "This is not the probability that the models are unrelated." in words(done.stdout)
    assert "common ancestor, a common initialisation" in words(done.stdout)
    again = run("compare", ZOO / "llama-a", ZOO / "llama-a-ft1", "--json")
    document = json.loads(again.stdout)
    assert document["verdict"] == "related"
    assert again.stderr == ""


def test_unrelated_pair_says_what_it_would_have_missed():
    done = run("compare", ZOO / "micro-00", ZOO / "micro-01")
    assert done.returncode == 0
    assert done.stdout.startswith("NO EVIDENCE")
    assert "would have been found with power 0.95" in words(done.stdout)
    assert "independent" not in done.stdout


def broken_folders(root):
    """name -> (folder, word its sentence must hold)."""
    good = derive.load(ZOO / "micro-00")
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    made = {}
    made["config only"] = (root / "config-only", "no weight file")
    (root / "config-only").mkdir()
    (root / "config-only" / "config.json").write_text(json.dumps(config))
    truncated = derive.save(good, root / "truncated", config=config) / "model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    made["truncated file"] = (root / "truncated", "model.safetensors")
    header = derive.save(good, root / "cut-header") / "model.safetensors"
    header.write_bytes(header.read_bytes()[:40])
    made["truncated header"] = (root / "cut-header", "model.safetensors")
    shards = derive.save(good, root / "missing-shard", shards=3)
    (shards / "model-00002-of-00003.safetensors").unlink()
    made["missing shard"] = (root / "missing-shard", "model-00002-of-00003.safetensors")
    for name, start in (
        ("pickle", b"\x80\x02}q\x00."),
        ("gguf", b"GGUF\x03\x00\x00\x00"),
        ("torch", b"PK\x03\x04" + b"\0" * 60),
    ):
        folder = root / name
        folder.mkdir()
        (folder / {"pickle": "pytorch_model.bin", "gguf": "model.gguf", "torch": "model.pth"}[name]).write_bytes(
            start + b"\0" * 100
        )
        made[f"other format: {name}"] = (folder, name)
    made["empty folder"] = (root / "empty", "")
    (root / "empty").mkdir()
    made["nothing there"] = (root / "nowhere", "no such")
    return made


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return broken_folders(tmp_path_factory.mktemp("broken"))


@pytest.mark.parametrize(
    "case",
    [
        "config only",
        "truncated file",
        "truncated header",
        "missing shard",
        "other format: pickle",
        "other format: gguf",
        "other format: torch",
        "empty folder",
        "nothing there",
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_broken_input_is_one_sentence_and_exit_3(broken, case, side):
    folder, word = broken[case]
    pair = (folder, ZOO / "micro-00") if side == 0 else (ZOO / "micro-00", folder)
    done = run("compare", *pair)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert word.lower() in done.stderr.lower()
    assert folder.name in done.stderr


def test_two_folders_with_one_config_and_no_weights(broken, tmp_path):
    folder, _ = broken["config only"]
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin" / "config.json").write_text((folder / "config.json").read_text())
    done = run("compare", folder, tmp_path / "twin", "--json")
    assert done.returncode == 3
    error = json.loads(done.stdout)["error"]
    assert set(error) == {"kind", "message", "where", "hint"}
    assert "weight" in error["message"]


def test_equal_config_and_tokenizer_prove_nothing(tmp_path):
    for name in ("micro-00", "micro-01"):
        derive.save(derive.load(ZOO / name), tmp_path / name, config={"model_type": "llama", "_name_or_path": "same"})
        (tmp_path / name / "tokenizer.json").write_text('{"version": "1.0"}')
    done = run("compare", tmp_path / "micro-00", tmp_path / "micro-01", "--json")
    assert json.loads(done.stdout)["verdict"] == "no-evidence"


def test_require_turns_a_verdict_into_an_exit_code(tmp_path):
    a, ft, b = ZOO / "micro-00", ZOO / "micro-01", ZOO / "llama-b"
    assert run("compare", a, a, "--require", "identical", "--quiet").returncode == 0
    assert run("compare", a, ft, "--require", "related", "--quiet").returncode == 4
    assert run("compare", ZOO / "llama-a", ZOO / "llama-a-ft1", "--require", "identical", "--quiet").returncode == 4
    unknown = {f"blocks.{i}.ffn.key.weight": np.ones((4, 4), np.float32) * i for i in range(3)}
    derive.save(unknown, tmp_path)
    assert run("compare", tmp_path, b, "--require", "related", "--quiet").returncode == 3
    assert run("compare", a, ft, "--require", "cousins").returncode == 2


def test_pairs_go_on_after_a_failure(tmp_path):
    lines = [
        "# a comment",
        "",
        f"{ZOO / 'micro-00'} {ZOO / 'micro-00'}",
        f"{ZOO / 'micro-00'}\t{tmp_path / 'no where'}",
        f"{ZOO / 'micro-01'}  {ZOO / 'micro-00'}",
    ]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    done = run("compare", "--pairs", tmp_path / "pairs.txt")
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert [d.get("verdict", "error") for d in documents] == ["identical", "error", "no-evidence"]
    assert documents[0]["family_size"] == 3
    assert documents[0]["level_used"] == pytest.approx(1e-6 / 3)
    assert documents[1]["b_ref"].endswith("no where")
    stdin = run("compare", "--pairs", "-", stdin=lines[2])
    assert json.loads(stdin.stdout)["a_ref"] == str(ZOO / "micro-00")


def test_every_line_of_pairs_says_whether_it_is_a_discovery(tmp_path):
    lines = [f"{ZOO / a} {ZOO / b}" for a, b in (("micro-00", "micro-01"), ("bert-a", "bert-a-ft"))]
    (tmp_path / "pairs.txt").write_text("\n".join([*lines, f"{ZOO / 'micro-00'} {tmp_path / 'nowhere'}"]))
    done = run("compare", "--pairs", tmp_path / "pairs.txt")
    stranger, child, failed = (json.loads(line) for line in done.stdout.splitlines())
    assert stranger["ebh"] == {"alpha": 1e-6, "family_size": 3, "rejected": False}
    assert child["ebh"] == {"alpha": 1e-6, "family_size": 3, "rejected": True}
    assert "ebh" not in failed
    assert stranger["log10_e"] < 6 < child["log10_e"]
    assert child["log10_p"] == pytest.approx(max(-child["log10_e"], child["floor_log10_p"]), abs=2e-6)


def test_published_statistics_of_pairs_are_counted(tmp_path):
    (tmp_path / "pairs.txt").write_text(f"{ZOO / 'llama-a'} {ZOO / 'llama-b'}\n")
    plain, more = (
        json.loads(run("compare", "--pairs", tmp_path / "pairs.txt", *extra).stdout) for extra in ([], ["--published"])
    )
    methods = [t["method"] for t in more["tests"] if t["method"].startswith("published")]
    assert methods == ["published-u"] * 4 + ["published-u-fisher"]
    assert more["record"]["run"]["bytes_read"] > plain["record"]["run"]["bytes_read"] + 100_000
    assert {k: more[k] for k in ("verdict", "log10_p", "log10_e")} == {
        k: plain[k] for k in ("verdict", "log10_p", "log10_e")
    }


@pytest.mark.parametrize("text", ["one\n", "one two three\n", "\n# nothing\n"])
def test_bad_pairs_files_are_usage_errors(tmp_path, text):
    (tmp_path / "pairs.txt").write_text(text)
    done = run("compare", "--pairs", tmp_path / "pairs.txt")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ["compare", "x"],
        ["compare"],
        ["tree"],
        ["compare", "a", "b", "--alpha", "2"],
        ["nonsense"],
        ["compare", "a", "--pairs", "f"],
        ["compare", "a", "b", "-o", "nonsense"],
        ["compare", "a", "b", "-o", "json=/no/such/folder/x"],
        ["compare", "a", "b", "--json", "-o", "text"],
    ],
)
def test_usage_errors_exit_2(args):
    done = run(*args)
    assert done.returncode in ({0, 2} if len(args) == 1 and args[0] in {"compare", "tree"} else {2})
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["compare", "x", "--json"],
        ["compare", "a", "b", "--alpha", "2", "--json"],
        ["tree", "--json"],
        ["compare", "--pairs", "f", "-o", "json", "--json"],
        ["tree", "--nonsense", "--json"],
    ],
)
def test_usage_errors_are_documents_under_json(args):
    done = run(*args)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "usage"
    assert done.stderr == ""


def test_quiet_pairs_print_nothing(tmp_path):
    (tmp_path / "pairs.txt").write_text(f"{ZOO / 'micro-00'} {ZOO / 'micro-01'}\n")
    done = run("compare", "--pairs", tmp_path / "pairs.txt", "--quiet", "--require", "related")
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "")


def test_outputs_are_written_whole(tmp_path):
    path = tmp_path / "out.json"
    done = run(
        "compare", ZOO / "micro-00", ZOO / "micro-01", "-o", f"json={path}", "-o", f"text={tmp_path / 'out.txt'}"
    )
    assert done.returncode == 0
    assert done.stdout.startswith("NO EVIDENCE")
    assert json.loads(path.read_text())["verdict"] == "no-evidence"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.txt"]


def test_row_key_changes_the_rows_but_not_the_answer(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    plain = json.loads(run("compare", ZOO / "llama-a", ZOO / "llama-a-ft1", "--json").stdout)
    keyed = json.loads(run("compare", ZOO / "llama-a", ZOO / "llama-a-ft1", "--json", "--row-key", key).stdout)
    assert plain["verdict"] == keyed["verdict"] == "related"
    assert plain["record"]["parameters"]["row_key"] == "public"
    assert keyed["record"]["parameters"]["row_key"] not in {"public", key.read_bytes().hex()}
    assert plain["record"]["inputs"][0]["slices_digest"] != keyed["record"]["inputs"][0]["slices_digest"]
    key.write_bytes(b"short")
    assert run("compare", ZOO / "llama-a", ZOO / "llama-b", "--row-key", key).returncode == 2


def test_a_hostile_name_cannot_talk_to_the_terminal(tmp_path):
    folder = tmp_path / "evil\x1b[31mred\nline"
    derive.save(derive.load(ZOO / "micro-00"), folder)
    done = run("compare", folder, ZOO / "micro-01")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\\x1b[31mred\\x0aline" in done.stdout


def test_version_and_help():
    runner = CliRunner()
    assert runner.invoke(app, ["--version"]).output.strip() == "0.1.0"
    assert "compare" in runner.invoke(app, ["--help"]).output


def test_interrupt_is_130(monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lineage.comparing.compare", stop)
    assert run("compare", "a", "b") == Done(130, "", "")
