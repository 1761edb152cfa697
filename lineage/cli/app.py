"""Registrations and `main`, nothing else. Heavy imports wait until a command runs."""

import sys

import typer

from lineage.cli.compare import command as compare_command
from lineage.cli.crawl import command as crawl_command
from lineage.cli.errors import report_error, report_usage
from lineage.cli.export import command as export_command
from lineage.cli.index import app as index_app
from lineage.cli.mark import app as mark_app
from lineage.cli.options import print_version
from lineage.cli.streams import abandon_stdout
from lineage.cli.trace import command as trace_command
from lineage.cli.tree import command as tree_command

app = typer.Typer(
    name="lineage",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Says from the weights themselves where a model came from.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compare", no_args_is_help=True)(compare_command)
app.command("tree", no_args_is_help=True)(tree_command)
app.command("trace", no_args_is_help=True)(trace_command)
app.command("crawl", no_args_is_help=True)(crawl_command)
app.add_typer(index_app, name="index")
app.add_typer(mark_app, name="mark")
app.command("export", no_args_is_help=True)(export_command)


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=print_version, is_eager=True
    ),
) -> None:
    """Options of every command."""


def main() -> None:
    """Run the console script; known failures become one sentence and the documented exit code."""
    as_json = "--json" in sys.argv
    try:
        code = app(prog_name="lineage", standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):
            raise
        abandon_stdout()  # nobody reads the help any more: no failure
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the tables decide: what they do not know is raised again
        sys.exit(report_usage(error, as_json=as_json) or report_error(error, as_json=as_json))
    sys.exit(code if isinstance(code, int) else 0)
