"""`lineage trace`."""

from typing import Annotated

import typer

from lineage.cli.options import (
    AlphaOption,
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

BackendOption = Annotated[
    str, typer.Option("--backend", metavar="NAME", help="How the index is searched: exact, or usearch (extra index).")
]


def command(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A model, or the id of one in the index.")],
    index: IndexOption = None,
    alpha: AlphaOption = 1e-6,
    row_key: RowKeyOption = None,
    backend: BackendOption = "exact",
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,
) -> None:
    """Look in an index for the models that a model comes from."""
    use_cache_folder()
    from lineage.index.backends import BACKENDS
    from lineage.plan import PUBLIC_KEY, load_row_key
    from lineage.report import trace_text
    from lineage.tracing import TraceOptions, trace

    if backend not in BACKENDS:
        raise typer.BadParameter(f"no search {backend!r}; there are {', '.join(BACKENDS)}", param_hint="--backend")
    write = writer(output, as_json=json_output, quiet=quiet, text=trace_text)
    options = TraceOptions(
        index=index_path(index),
        alpha=alpha,
        seed=seed,
        row_key=load_row_key(row_key) if row_key else PUBLIC_KEY,
        backend=backend,
    )
    with progress(quiet=quiet or (json_output and not verbose), verbose=verbose) as tell:
        document = trace(ref, options, tell)
    write(document)
