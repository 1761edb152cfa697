"""Options shared by commands; the only reader of environment variables besides the Hub client's own."""

import os
from pathlib import Path
from typing import Annotated

import typer

AlphaOption = Annotated[float, typer.Option("--alpha", help="Family-wise level of the tests.", min=1e-300, max=0.5)]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
OutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o", "--output", metavar="FORMAT[=PATH]", help="Also write text or json, to PATH or stdout; repeatable."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing; only the exit code and files speak.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show progress even when stderr is not a terminal.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the generators.", min=0)]
RowKeyOption = Annotated[
    Path | None,
    typer.Option("--row-key", metavar="FILE", help="Secret key that places the rows read; public by default."),
]


def print_version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        from importlib.metadata import version

        typer.echo(version("lineage-forensics"))
        raise typer.Exit


def use_cache_folder() -> None:
    """Let compiled loops be kept in `$LINEAGE_CACHE`, else the user's cache folder, unless numba was told a place.

    Small matrix products are all there is for BLAS here: its threads would only wait for each other.
    """
    from platformdirs import user_cache_path

    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    home = Path(os.environ.get("LINEAGE_CACHE") or user_cache_path("lineage"))
    os.environ.setdefault("NUMBA_CACHE_DIR", str(home / "numba"))
