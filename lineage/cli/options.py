"""Options shared by commands; the only reader of environment variables besides the Hub client's own."""

import os
from pathlib import Path
from typing import Annotated

import typer

LOWEST_ALPHA, HIGHEST_ALPHA = 1e-300, 0.5


def checked_alpha(value: float) -> float:
    """A family-wise level inside its bounds; what is no number is outside."""
    if not LOWEST_ALPHA <= value <= HIGHEST_ALPHA:
        raise typer.BadParameter(f"the level is a number between {LOWEST_ALPHA:g} and {HIGHEST_ALPHA:g}, not {value:g}")
    return value


def positive(value: int | None) -> int | None:
    """A number of bytes that is at least one."""
    if value is not None and value < 1:
        raise typer.BadParameter(f"at least one byte, not {value}")
    return value


def not_negative(value: int) -> int:
    """A seed."""
    if value < 0:
        raise typer.BadParameter(f"a seed is 0 or more, not {value}")
    return value


AlphaOption = Annotated[
    float, typer.Option("--alpha", help="Family-wise level of the tests, 1e-300 to 0.5.", callback=checked_alpha)
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
OutputOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT[=PATH]",
        help="Write text or json to PATH besides the report, or to stdout in its place; repeatable.",
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No report and no progress; the exit code and what -o asks for remain.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", help="Show progress on stderr even when it is no terminal, as plain lines.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the generators.", callback=not_negative)]
RowKeyOption = Annotated[
    Path | None,
    typer.Option("--row-key", metavar="FILE", help="Secret key that places the rows read; public by default."),
]


IndexOption = Annotated[
    Path | None,
    typer.Option(
        "--index", metavar="PATH", help="The index; else $LINEAGE_INDEX, else index.db in the user's data folder."
    ),
]


def index_path(given: Path | None) -> Path:
    """Where the index is: as given, else `$LINEAGE_INDEX`, else in the user's data folder."""
    from platformdirs import user_data_path

    if given is not None:
        return given
    return Path(os.environ.get("LINEAGE_INDEX") or user_data_path("lineage") / "index.db")


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
