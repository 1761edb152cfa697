"""`lineage export`."""

from typing import Annotated

import typer

from lineage.cli.options import JsonOption, SeedOption

OutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT[=PATH]",
        help="Write dot, gexf, graphml, json, mermaid or svg to PATH, or to stdout without a path; repeatable.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Take --verbose away; what -o asks for remains.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Say on stderr what was written where.")]


def command(
    graph: Annotated[
        str | None,
        typer.Argument(metavar="GRAPH.json", help="What tree --json wrote, or - for stdin.", show_default=False),
    ] = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - every command takes one; nothing here is drawn by chance
) -> None:
    """Write the families of a tree document as files of other programs: graphs, diagrams, a picture."""
    from lineage.cli.files import write_file
    from lineage.cli.output import places
    from lineage.cli.streams import write_stderr, write_stdout
    from lineage.export import EXPORTERS, contents_of, name_of, read_document
    from lineage.names import safe

    if graph is None:
        raise typer.BadParameter("name the document of a tree, or - for stdin", param_hint="GRAPH.json")
    on_stdout, files = places(output, tuple(EXPORTERS), as_json=json_output)
    on_stdout = ["json"] if json_output else on_stdout
    if not on_stdout and not files:
        raise typer.BadParameter(f"name a format: {', '.join(EXPORTERS)}", param_hint="--output")
    contents = contents_of(read_document(graph), name_of(graph))
    # every text is made before the first is written: a document that one format refuses leaves no file behind
    made = {name: EXPORTERS[name](contents) for name in (*on_stdout, *(name for name, _ in files))}
    for name, path in files:
        write_file(path, made[name])
        if verbose and not quiet:
            write_stderr(f"wrote {name} to {safe(path)}\n")
    for name in on_stdout:
        write_stdout(made[name])
