"""`lineage compare`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lineage.cli.errors import NEGATIVE, OPERATIONAL
from lineage.cli.options import (
    AlphaOption,
    JsonOption,
    OutputOption,
    QuietOption,
    RowKeyOption,
    SeedOption,
    VerboseOption,
)
from lineage.cli.output import is_coloured, progress_bar, write_line, writer

MaxBytesOption = Annotated[int | None, typer.Option("--max-bytes", help="Most bytes read of one model.", min=1)]
RequireOption = Annotated[
    str | None,
    typer.Option("--require", metavar="related|identical", help="Exit 4 unless the verdict is at least this."),
]
PairsOption = Annotated[
    str | None, typer.Option("--pairs", metavar="FILE|-", help="Two references a line; one JSON line each, in order.")
]
ThoroughOption = Annotated[
    bool,
    typer.Option("--thorough", help="Read everything both models share: distances, unchanged share, ranks of changes."),
]


def command(
    a: Annotated[str | None, typer.Argument(help="Hub id, folder or weight file.", show_default=False)] = None,
    b: Annotated[str | None, typer.Argument(help="Another one.", show_default=False)] = None,
    alpha: AlphaOption = 1e-6,
    max_bytes: MaxBytesOption = None,
    thorough: ThoroughOption = False,
    require: RequireOption = None,
    row_key: RowKeyOption = None,
    pairs: PairsOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,
) -> None:
    """Test whether models A and B share weights: a valid p-value, the kind of relation, its direction, which layers."""
    _check(a, b, pairs, require, output)
    from lineage.comparing import CompareOptions, compare
    from lineage.plan import PUBLIC_KEY, load_row_key
    from lineage.report import compare_text

    key = load_row_key(row_key) if row_key else PUBLIC_KEY
    options = CompareOptions(alpha=alpha, seed=seed, max_bytes=max_bytes, row_key=key, thorough=thorough)
    if pairs is not None:
        raise typer.Exit(_run_pairs(pairs, options, quiet=quiet, verbose=verbose, require=require))
    write = writer(output, as_json=json_output, quiet=quiet, text=lambda d: compare_text(d, colour=is_coloured()))
    with progress_bar(quiet=quiet or json_output, verbose=verbose) as tell:
        document = compare(str(a), str(b), options, tell)
    write(document)
    raise typer.Exit(_code(document, require))


def _check(a: str | None, b: str | None, pairs: str | None, require: str | None, output: list[str] | None) -> None:
    if require not in {None, "related", "identical"}:
        raise typer.BadParameter("give related or identical", param_hint="--require")
    if pairs is None and (a is None or b is None):
        raise typer.BadParameter("name two models, or a file with --pairs", param_hint="A B")
    if pairs is not None and a is not None:
        raise typer.BadParameter("--pairs takes the models from its file", param_hint="A B")
    if pairs is not None and output:
        raise typer.BadParameter("--pairs writes JSON Lines on stdout only", param_hint="--output")


def _code(document: Any, require: str | None) -> int:
    """0, or with --require: 3 for what could not be tested, 4 for a negative verdict."""
    verdict = document.get("verdict")
    if require is None or verdict == "identical" or (require == "related" and verdict == "related"):
        return 0
    return OPERATIONAL if verdict == "untestable" else NEGATIVE


def _run_pairs(source: str, options: Any, *, quiet: bool, verbose: bool, require: str | None) -> int:
    from lineage.errors import UsageError
    from lineage.pairs import compare_pairs, parse_pairs

    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the pairs cannot be read ({error})", where=source, hint="give a text file, or - for stdin"
        ) from error
    worst = 0
    with progress_bar(quiet=quiet, verbose=verbose) as tell:
        for document in compare_pairs(parse_pairs(text, source), options, tell):
            if not quiet:
                write_line(document)
            code = OPERATIONAL if "error" in document else _code(document, require)
            worst = OPERATIONAL if OPERATIONAL in {code, worst} else max(worst, code)
    return worst
