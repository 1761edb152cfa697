"""`lineage tree`."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lineage.cli.errors import OPERATIONAL
from lineage.cli.options import (
    AlphaOption,
    JsonOption,
    OutputOption,
    QuietOption,
    RowKeyOption,
    SeedOption,
    use_cache_folder,
)
from lineage.cli.output import writer
from lineage.cli.progress import progress
from lineage.cli.streams import write_stderr

VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", help="Name every model in the text; show progress on stderr even without a terminal."),
]
MetadataOption = Annotated[
    bool,
    typer.Option(
        "--metadata",
        help="Weigh dates and declared parents too: in numbers of their own, never in an edge or its probability.",
    ),
]
EvidenceOption = Annotated[
    Path | None,
    typer.Option(
        "--evidence",
        metavar="FILE",
        help="Keep what each pair was tested to say; the next run with FILE goes on from there.",
    ),
]
FromOption = Annotated[str | None, typer.Option("--from", metavar="FILE|-", help="Read references, one a line.")]


def command(
    refs: Annotated[
        list[str] | None, typer.Argument(help="Hub ids, weight files, folders to search.", show_default=False)
    ] = None,
    from_file: FromOption = None,
    alpha: AlphaOption = 1e-6,
    row_key: RowKeyOption = None,
    metadata: MetadataOption = False,
    evidence: EvidenceOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,
) -> None:
    """Recover the families among many models and draw one rooted tree each."""
    if not refs and from_file is None:
        raise typer.BadParameter("name models or a folder, or a file with --from", param_hint="REF")
    use_cache_folder()
    from lineage.growing import TreeOptions, kept_answers, tree
    from lineage.plan import PUBLIC_KEY, load_row_key
    from lineage.report import tree_text
    from lineage.searching import find_all, is_missing, read_references

    write = writer(output, as_json=json_output, quiet=quiet, text=partial(tree_text, verbose=verbose))
    key = load_row_key(row_key) if row_key else PUBLIC_KEY
    references = [*(refs or []), *(read_references(from_file) if from_file else [])]
    with ExitStack() as stack:
        answers = stack.enter_context(kept_answers(evidence, key)) if evidence is not None else None
        if answers is not None and answers.dropped and not quiet:
            write_stderr(f"{evidence}: a last line that was cut short is taken away; its pair is tested again\n")
        found = find_all(references)
        options = TreeOptions(alpha=alpha, seed=seed, row_key=key, metadata=metadata, answers=answers)
        tell = stack.enter_context(progress(quiet=quiet or (json_output and not verbose), verbose=verbose))
        document = tree(found, options, tell)
    write(document)
    if is_missing(references, [s["ref"] for s in document["skipped"]]):
        raise typer.Exit(OPERATIONAL)
