"""`lineage compare`."""

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
    positive,
    use_cache_folder,
)
from lineage.cli.output import to_line, writer
from lineage.cli.progress import progress
from lineage.cli.streams import write_stderr, write_stdout

MaxBytesOption = Annotated[
    int | None,
    typer.Option(
        "--max-bytes", metavar="N", help="Most bytes read of one model; the header is always read.", callback=positive
    ),
]
RequireOption = Annotated[
    str | None,
    typer.Option("--require", metavar="related|identical", help="Exit 4 unless the verdict is at least this."),
]
PublishedOption = Annotated[
    bool, typer.Option("--published", help="Add the published, approximate statistics beside the exact ones.")
]
PairsOption = Annotated[
    str | None, typer.Option("--pairs", metavar="FILE|-", help="Two references a line; one JSON line each, in order.")
]
ThoroughOption = Annotated[
    bool,
    typer.Option("--thorough", help="Read everything both models share: distances, unchanged share, ranks of changes."),
]

JobsOption = Annotated[
    int, typer.Option("--jobs", metavar="N", help="With --pairs: workers that compare at one time.", min=1, max=256)
]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="With --jobs: processes, threads, or ray (extra scale).")
]

_RANKS = (0, NEGATIVE, OPERATIONAL)
"""Exit codes of pairs from best to worst."""

_MOST_OTHERS = 5
"""Weight sets named in one hint."""


def command(
    a: Annotated[str | None, typer.Argument(help="Hub id, folder or weight file.", show_default=False)] = None,
    b: Annotated[str | None, typer.Argument(help="Another one.", show_default=False)] = None,
    alpha: AlphaOption = 1e-6,
    max_bytes: MaxBytesOption = None,
    thorough: ThoroughOption = False,
    require: RequireOption = None,
    row_key: RowKeyOption = None,
    pairs: PairsOption = None,
    jobs: JobsOption = 1,
    engine: EngineOption = "processes",
    published: PublishedOption = False,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,
) -> None:
    """Test whether models A and B share weights: a valid p-value, the kind of relation, its direction, which layers."""
    _check(a, b, pairs, require, output, jobs)
    use_cache_folder()
    from lineage.comparing import CompareOptions, compare
    from lineage.plan import PUBLIC_KEY, load_row_key
    from lineage.report import compare_text

    key = load_row_key(row_key) if row_key else PUBLIC_KEY
    options = CompareOptions(
        alpha=alpha, seed=seed, max_bytes=max_bytes, row_key=key, published=published, thorough=thorough
    )
    if pairs is not None:
        how = {"jobs": jobs, "engine": engine}
        raise typer.Exit(_run_pairs(pairs, options, how, quiet=quiet, verbose=verbose, require=require))
    write = writer(output, as_json=json_output, quiet=quiet, text=compare_text)
    with progress(quiet=quiet or (json_output and not verbose), verbose=verbose) as tell:
        document = compare(str(a), str(b), options, tell)
    if not (quiet or json_output):
        _hint_at_others(str(a), str(b))
    write(document)
    raise typer.Exit(_code(document, require))


def _check(
    a: str | None, b: str | None, pairs: str | None, require: str | None, output: list[str] | None, jobs: int
) -> None:
    if require not in {None, "related", "identical"}:
        raise typer.BadParameter("give related or identical", param_hint="--require")
    if pairs is None and (a is None or b is None):
        raise typer.BadParameter("name two models, or a file with --pairs", param_hint="A B")
    if pairs is not None and a is not None:
        raise typer.BadParameter("--pairs takes the models from its file", param_hint="A B")
    if pairs is None and jobs != 1:
        raise typer.BadParameter("several jobs go with --pairs", param_hint="--jobs")
    if pairs is not None and output:
        raise typer.BadParameter("--pairs writes JSON Lines on stdout only", param_hint="--output")


def _code(document: Any, require: str | None) -> int:
    """0, or with --require: 3 for what could not be tested, 4 for a negative verdict."""
    verdict = document.get("verdict")
    if require is None or verdict == "identical" or (require == "related" and verdict == "related"):
        return 0
    return OPERATIONAL if verdict == "untestable" else NEGATIVE


def _hint_at_others(*references: str) -> None:
    """Say where a folder holds further weight sets that were not looked at."""
    from lineage.names import safe
    from lineage.searching import sets_beside

    for reference in dict.fromkeys(references):
        others = sets_beside(reference)
        if others:
            more = f" and {len(others) - _MOST_OTHERS} more" if len(others) > _MOST_OTHERS else ""
            write_stderr(f"lineage: also there: {safe(', '.join(others[:_MOST_OTHERS]))}{more}\n")


def _run_pairs(
    source: str, options: Any, how: dict[str, Any], *, quiet: bool, verbose: bool, require: str | None
) -> int:
    from lineage.engines import ENGINES
    from lineage.pairs import compare_pairs, parse_pairs
    from lineage.searching import read_list

    if how["engine"] not in ENGINES:
        raise typer.BadParameter(f"no engine {how['engine']!r}: {', '.join(sorted(ENGINES))}", param_hint="--engine")
    pairs = parse_pairs(read_list(source, "pairs"), "stdin" if source == "-" else source)
    failed: list[str] = []
    worst = 0
    with progress(quiet=quiet, verbose=verbose) as tell:
        for document in compare_pairs(pairs, options, tell, **how):
            if "error" in document:
                failed.append(document["error"]["message"])
            else:
                worst = max(worst, _code(document, require), key=_RANKS.index)
            if not quiet and not write_stdout(to_line(document)):
                break
    if not failed:
        return worst
    from lineage.names import safe
    from lineage.report.text import counted

    write_stderr(f"lineage: {len(failed)} of {counted(len(pairs), 'pair')} failed; the first: {safe(failed[0])}\n")
    return OPERATIONAL
