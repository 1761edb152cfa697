"""`lineage mark bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lineage.cli.files import check_target, write_file
from lineage.cli.options import JsonOption, QuietOption, SeedOption, VerboseOption, positive, use_cache_folder
from lineage.cli.output import to_json, writer
from lineage.cli.progress import progress

if TYPE_CHECKING:
    from weightmark.scheme import Strength

SchemesOption = Annotated[str, typer.Option("--schemes", metavar="S,S", help="Schemes, with commas between.")]
SuiteOption = Annotated[
    str, typer.Option("--suite", metavar="NAME|A,A", help="quick, fixture or all, or attacks with commas between.")
]
KeysOption = Annotated[
    int, typer.Option("--keys", metavar="N", help="Keys a row, and as many that marked nothing.", callback=positive)
]
StrengthOption = Annotated[str, typer.Option("--strength", metavar="low|default|high", help="Strength of the marks.")]
EpsOption = Annotated[
    float | None,
    typer.Option("--eps", metavar="X", help="Relative size of the marks in its place, 0 to 0.1; dss and gram."),
]
InformedOption = Annotated[
    bool, typer.Option("--informed", help="Verify with the unmarked model at hand, where a scheme can use it.")
]
TextOption = Annotated[
    str | None,
    typer.Option("--text", metavar="FILE", help="What models are fine-tuned on, by tune-N and lora-N (extra torch)."),
]
LearningOption = Annotated[
    float, typer.Option("--learning-rate", metavar="X", help="Of fine-tuning; its largest, above 0 and at most 0.1.")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the JSON document here.")]
MarkdownOption = Annotated[Path | None, typer.Option("--markdown", metavar="FILE", help="Write the table here.")]
PlotOption = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Write a picture of it here, as SVG.")]


def command(
    model: Annotated[
        str, typer.Argument(help="The unmarked model: Hub id, folder or weight file.", show_default=False)
    ],
    schemes: SchemesOption = "dss",
    suite: SuiteOption = "quick",
    keys: KeysOption = 3,
    strength: StrengthOption = "default",
    eps: EpsOption = None,
    informed: InformedOption = False,
    text: TextOption = None,
    learning_rate: LearningOption = 2e-5,
    out: OutOption = None,
    markdown: MarkdownOption = None,
    plot: PlotOption = None,
    json_output: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,
) -> None:
    """Measure what attacks leave of marks in a model: marked copies are made in memory, attacked and read."""
    if strength not in {"low", "default", "high"}:
        raise typer.BadParameter("give low, default or high", param_hint="--strength")
    if eps is not None and not 0.0 < eps <= 0.1:
        raise typer.BadParameter("a relative size lies between 0 and 0.1", param_hint="--eps")
    if not 0.0 < learning_rate <= 0.1:
        raise typer.BadParameter("a learning rate lies above 0 and at most at 0.1", param_hint="--learning-rate")
    use_cache_folder()
    from lineage.benching import BenchOptions, bench
    from lineage.report.bench import bench_picture, bench_text
    from lineage.retraining import text_of

    for path in (out, markdown, plot):
        if path is not None:
            check_target(path)
    options = BenchOptions(
        schemes=tuple(dict.fromkeys(name.strip() for name in schemes.split(","))),
        suite=suite,
        keys=keys,
        strength=cast("Strength", strength),
        eps=eps,
        informed=informed,
        seed=seed,
        text=b"" if text is None else text_of(text),
        lr=learning_rate,
    )
    write = writer(None, as_json=json_output, quiet=quiet, text=bench_text)
    with progress(quiet=quiet or (json_output and not verbose), verbose=verbose) as tell:
        document = bench(model, options, tell=tell)
    for path, words in ((out, to_json(document)), (markdown, bench_text(document)), (plot, bench_picture(document))):
        if path is not None:
            write_file(path, words)
    write(document)
