"""The console script and `python -m lineage`: nothing is imported before an interrupt would end in silence."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is still loading ends like any later one."""
    try:
        from lineage.cli.app import main as run  # noqa: PLC0415 - see above

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
