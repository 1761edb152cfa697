"""`lineage mark`: one function for each subcommand."""

import math
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from lineage.cli.errors import NEGATIVE
from lineage.cli.markbench import command as bench_command
from lineage.cli.markclaims import PassphraseOption, commit, contest, passphrase_of, read_key
from lineage.cli.marksketch import command as sketch_command
from lineage.cli.options import (
    JsonOption,
    OutputOption,
    QuietOption,
    SeedOption,
    VerboseOption,
    positive,
    use_cache_folder,
)
from lineage.cli.output import writer
from lineage.cli.progress import progress

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Make keys, mark weight files, look for marks, test them."
)
app.command("commit", no_args_is_help=True)(commit)
app.command("contest", no_args_is_help=True)(contest)
app.command("bench", no_args_is_help=True)(bench_command)
app.command("sketch", no_args_is_help=True)(sketch_command)

ModelArgument = Annotated[str, typer.Argument(help="Hub id, folder or weight file.", show_default=False)]
LocalArgument = Annotated[str, typer.Argument(help="Folder or weight file; never changed.", show_default=False)]
KeyOption = Annotated[Path, typer.Option("--key", metavar="FILE", help="The key.")]
KeysOption = Annotated[
    list[Path] | None, typer.Option("--key", metavar="FILE", help="A key; repeatable, to find the recipient.")
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--channels",
        metavar="ID,ID|N|all",
        help="Look for these recipients of each key, for 0 to N-1, or for all it knows.",
    ),
]
ReferenceOption = Annotated[
    str | None, typer.Option("--reference", metavar="REF", help="The model as it was before it was marked.")
]
SketchOption = Annotated[
    str | None, typer.Option("--sketch", metavar="FILE", help="A sketch of that model, in place of the model.")
]
AlignOption = Annotated[
    str, typer.Option("--align", metavar="auto|none|full", help="Undo rewrites against the reference or sketch.")
]
ThresholdOption = Annotated[
    float | None, typer.Option("--threshold", metavar="P", help="Level of `found`; 1e-6, with --claim 2^-128.")
]


def _threshold(value: float | None, claim: str | None) -> float:
    """Natural log of the level."""
    if value is None:
        return -128.0 * math.log(2.0) if claim is not None else math.log(1e-6)
    if not 0.0 < value <= 0.5:
        raise typer.BadParameter(f"a level lies above 0 and at most at 0.5, not {value:g}", param_hint="--threshold")
    return math.log(value)


@app.command("schemes")
def schemes(
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """List the schemes and what they can do."""
    from lineage.marking import schemes as listed
    from lineage.report.marks import schemes_text

    writer(output, as_json=json_output, quiet=quiet, text=schemes_text)(listed())


@app.command("keygen", no_args_is_help=True)
def keygen(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The key file; never overwritten.")],
    scheme: Annotated[str, typer.Option("--scheme", metavar="NAME", help="See `lineage mark schemes`.")] = "dss",
    strength: Annotated[str, typer.Option("--strength", metavar="low|default|high", help="Of the mark.")] = "default",
    payload: Annotated[str, typer.Option("--payload", metavar="HEX", help="Bytes the mark carries.")] = "",
    channel: Annotated[str, typer.Option("--channel", metavar="ID", help="Mark number or recipient.")] = "0",
    eps: Annotated[
        float | None, typer.Option("--eps", metavar="X", help="Relative size of the mark, in place of the strength.")
    ] = None,
    passphrase: PassphraseOption = False,
    json_output: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a key from 32 random bytes and write it to a file nobody else may read."""
    if strength not in {"low", "default", "high"}:
        raise typer.BadParameter("give low, default or high", param_hint="--strength")
    if eps is not None and not 0.0 < eps <= 0.1:
        raise typer.BadParameter("a relative size lies above 0 and at most at 0.1", param_hint="--eps")
    try:
        content = bytes.fromhex(payload)
    except ValueError as error:
        raise typer.BadParameter("give an even number of hexadecimal digits", param_hint="--payload") from error
    from lineage import marking
    from lineage.report.marks import keygen_text

    key = marking.keygen(scheme, cast("Any", strength), payload=content, channel=channel, eps=eps)
    word = passphrase_of(twice=True) if passphrase else None
    marking.write_key(out, key, word, fresh=True)
    document = {"schema_version": 1, "key_id": key.id, "scheme": key.scheme, "channel": key.channel, "out": str(out)}
    writer(None, as_json=json_output, quiet=quiet, text=keygen_text)(document)


@app.command("plan", no_args_is_help=True)
def plan(
    model: ModelArgument,
    key: KeyOption,
    passphrase: PassphraseOption = False,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Say what a key would do to a model and what attacks would leave of it; nothing is written."""
    use_cache_folder()
    from lineage.marking import plan as planned
    from lineage.report.marks import plan_text

    write = writer(output, as_json=json_output, quiet=quiet, text=plan_text)
    write(planned(model, read_key(key, passphrase_of() if passphrase else None)))


@app.command("embed", no_args_is_help=True)
def embed(
    model: LocalArgument,
    key: KeyOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the marked copy; must be new.")],
    channel: Annotated[
        str | None,
        typer.Option("--channel", metavar="ID", help="Mark the copy of this recipient; the key file keeps all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Mark more strongly than is allowed.")] = False,
    sketch: Annotated[
        Path | None, typer.Option("--sketch", metavar="FILE", help="Write a sketch of the model as it is here first.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="FILE", help="Tell what the mark costs on this text (extra torch).")
    ] = None,
    passphrase: PassphraseOption = False,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a marked copy of a model: whole under its name, or not at all. The key file then knows what it marked."""
    use_cache_folder()
    from lineage.issuing import with_copy
    from lineage.marking import mark, recipient, write_key
    from lineage.report.marks import embed_text
    from lineage.retraining import text_of

    write = writer(output, as_json=json_output, quiet=quiet, text=embed_text)
    word = passphrase_of() if passphrase else None
    opened = recipient(read_key(key, word), channel)
    with progress(quiet=quiet or (json_output and not verbose), verbose=verbose) as tell:
        words = b"" if text is None else text_of(text)
        document, marked = mark(model, opened, out, force=force, sketch=sketch, text=words, tell=tell)
    write_key(key, with_copy(read_key(key, word), marked), word, fresh=False)
    write(document)


@app.command("verify", no_args_is_help=True)
def verify(
    model: ModelArgument,
    key: KeysOption = None,
    channels: ChannelsOption = None,
    claim: Annotated[
        str | None, typer.Option("--claim", metavar="FILE", help="Hold a claim to its key, at the level of claims.")
    ] = None,
    reference: ReferenceOption = None,
    sketch: SketchOption = None,
    align: AlignOption = "auto",
    max_bytes: Annotated[
        int | None,
        typer.Option("--max-bytes", metavar="N", help="Read about so much of the weights.", callback=positive),
    ] = None,
    family_size: Annotated[
        int, typer.Option("--family-size", metavar="N", help="Models or keys tested in all.", callback=positive)
    ] = 1,
    threshold: ThresholdOption = None,
    passphrase: PassphraseOption = False,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,
) -> None:
    """Look for the mark of a key in a model: a p-value that holds whatever the model is. Exit 0 found, 4 otherwise."""
    if align not in {"auto", "none", "full"}:
        raise typer.BadParameter("give auto, none or full", param_hint="--align")
    if not key:
        raise typer.BadParameter("name the key file of the mark", param_hint="--key")
    use_cache_folder()
    from lineage.recipients import in_channels, of_claim
    from lineage.recognising import VerifyOptions
    from lineage.recognising import verify as verified
    from lineage.report.marks import verify_text

    write = writer(output, as_json=json_output, quiet=quiet, text=verify_text)
    word = passphrase_of() if passphrase else None
    keys = [read_key(path, word) for path in key]
    if channels is not None:
        keys = in_channels(keys, channels)
    original = None
    if claim is not None:
        keys, original = of_claim(keys, claim)
    options = VerifyOptions(
        reference=reference,
        sketch=sketch,
        original=original,
        align=cast("Any", align),
        max_bytes=max_bytes,
        family_size=family_size,
        log_threshold=_threshold(threshold, claim),
        seed=seed,
    )
    with progress(quiet=quiet or (json_output and not verbose), verbose=verbose) as tell:
        document = verified(model, keys, options, tell)
    write(document)
    raise typer.Exit(0 if document["verdict"] == "found" else NEGATIVE)
