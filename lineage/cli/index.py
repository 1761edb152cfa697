"""`lineage index`: one function for each subcommand."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from lineage.cli.errors import NEGATIVE, OPERATIONAL
from lineage.cli.options import (
    IndexOption,
    JsonOption,
    OutputOption,
    QuietOption,
    RowKeyOption,
    SeedOption,
    VerboseOption,
    index_path,
    use_cache_folder,
)
from lineage.cli.output import writer
from lineage.cli.progress import progress

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, look into, check and join indexes.")

FromOption = Annotated[str | None, typer.Option("--from", metavar="FILE|-", help="Read references, one a line.")]
BackendOption = Annotated[str, typer.Option("--backend", metavar="NAME", help="exact, or usearch (extra index).")]
Work = Callable[[Any, Any], dict[str, Any]]


@app.command("info")
def info(
    index: IndexOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - every command takes one; nothing here is drawn by chance
) -> None:
    """Say what an index holds, and how large it is."""
    _run(lambda work, _tell: work.info(work.IndexOptions(index_path(index))), json_output, output, quiet, verbose)


@app.command("add")
def add(
    refs: Annotated[
        list[str] | None, typer.Argument(help="Hub ids, weight files, folders to search.", show_default=False)
    ] = None,
    from_file: FromOption = None,
    index: IndexOption = None,
    row_key: RowKeyOption = None,
    lean: Annotated[
        bool, typer.Option("--lean", help="Signatures only: without larger slices directions are told less often.")
    ] = False,
    no_hashes: Annotated[
        bool, typer.Option("--no-hashes", help="Do not read files whole for digests that their place does not state.")
    ] = False,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - see info
) -> None:
    """Read models and store what tests, searches and trees need of them."""
    if not refs and from_file is None:
        raise typer.BadParameter("name models or a folder, or a file with --from", param_hint="REF")
    use_cache_folder()
    from lineage.searching import find_all, read_references

    def work(module: Any, tell: Any) -> dict[str, Any]:
        found = find_all([*(refs or []), *(read_references(from_file) if from_file else [])])
        options = module.IndexOptions(index_path(index), _key(row_key))
        return dict(module.add(found, options, studied=not lean, hashed=not no_hashes, tell=tell))

    document = _run(work, json_output, output, quiet, verbose)
    if document["skipped"] and not document["added"] + document["replaced"] + document["unchanged"]:
        raise typer.Exit(OPERATIONAL)


@app.command("remove")
def remove(
    names: Annotated[list[str], typer.Argument(metavar="ID", help="Ids, or repositories or folders as a whole.")],
    index: IndexOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - see info
) -> None:
    """Take models out."""
    document = _run(
        lambda work, _tell: work.remove(names, work.IndexOptions(index_path(index))),
        json_output,
        output,
        quiet,
        verbose,
    )
    if document["missing"]:
        raise typer.Exit(OPERATIONAL)


@app.command("search")
def search(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A model, or the id of one in the index.")],
    index: IndexOption = None,
    row_key: RowKeyOption = None,
    most: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Candidates shown.")] = 20,
    backend: BackendOption = "exact",
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - see info
) -> None:
    """Name the models most alike to one, without a test."""
    use_cache_folder()
    from lineage.index.backends import BACKENDS

    if backend not in BACKENDS:
        raise typer.BadParameter(f"no search {backend!r}; there are {', '.join(BACKENDS)}", param_hint="--backend")

    def work(module: Any, tell: Any) -> dict[str, Any]:
        options = module.IndexOptions(index_path(index), _key(row_key))
        return dict(module.search(ref, options, most=most, backend=backend, tell=tell))

    _run(work, json_output, output, quiet, verbose)


@app.command("verify")
def verify(
    index: IndexOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - see info
) -> None:
    """Check that every byte of an index is what was written."""
    document = _run(
        lambda work, tell: work.check(work.IndexOptions(index_path(index)), tell), json_output, output, quiet, verbose
    )
    if not document["intact"]:
        raise typer.Exit(NEGATIVE)


@app.command("merge")
def merge(
    others: Annotated[
        list[str],
        typer.Argument(
            metavar="INDEX", help="Indexes whose entries are taken in; or Parquet files, folders, addresses of them."
        ),
    ],
    index: IndexOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - see info
) -> None:
    """Take the entries of other indexes in: in any order, any number of times."""
    _run(
        lambda work, tell: work.join(others, work.IndexOptions(index_path(index)), tell),
        json_output,
        output,
        quiet,
        verbose,
    )


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the Parquet files go; empty or new.")],
    index: IndexOption = None,
    no_blobs: Annotated[bool, typer.Option("--no-blobs", help="Leave signatures and larger slices out.")] = False,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - see info
) -> None:
    """Write an index as Parquet files (extra index)."""
    _run(
        lambda work, tell: work.write_parquet(
            folder, work.IndexOptions(index_path(index)), blobs=not no_blobs, tell=tell
        ),
        json_output,
        output,
        quiet,
        verbose,
    )


def _key(row_key: Path | None) -> Any:
    from lineage.plan import PUBLIC_KEY, load_row_key

    return load_row_key(row_key) if row_key else PUBLIC_KEY


def _run(work: Work, as_json: bool, output: list[str] | None, quiet: bool, verbose: bool) -> Mapping[str, Any]:
    """Do the work between the check of the outputs and the writing of the document."""
    use_cache_folder()
    from lineage import indexing
    from lineage.report import index_text

    write = writer(output, as_json=as_json, quiet=quiet, text=index_text)
    with progress(quiet=quiet or (as_json and not verbose), verbose=verbose) as tell:
        document = work(indexing, tell or (lambda _stage, _done, _total: None))
    write(document)
    return document
