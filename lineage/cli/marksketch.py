"""`lineage mark sketch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lineage.cli.options import JsonOption, OutputOption, QuietOption, VerboseOption, use_cache_folder
from lineage.cli.output import writer
from lineage.cli.progress import progress

if TYPE_CHECKING:
    from weightmark.sketchfile import Kind

_KINDS = ("perm", "rot", "gram")


def command(
    model: Annotated[str, typer.Argument(help="The model as it is before it is marked.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The sketch; never written over another file.")],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND,KIND", help="What it holds: perm, rot, gram.")
    ] = "perm,rot,gram",
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write what stands for an unmarked model when its marks are looked for, without its weights."""
    kinds = kinds_of(kind)
    use_cache_folder()
    from lineage.outlining import sketch
    from lineage.report.marks import sketch_text

    write = writer(output, as_json=json_output, quiet=quiet, text=sketch_text)
    with progress(quiet=quiet or (json_output and not verbose), verbose=verbose) as tell:
        document: dict[str, Any] = sketch(model, out, kinds, tell)
    write(document)


def kinds_of(text: str) -> "tuple[Kind, ...]":
    """Kinds that were named, in the order of the file."""
    named = {name.strip() for name in text.split(",")}
    if not named <= set(_KINDS) or not named:
        raise typer.BadParameter(f"give some of {', '.join(_KINDS)}", param_hint="--kind")
    return cast("tuple[Kind, ...]", tuple(name for name in _KINDS if name in named))
