"""`python -m lineage`."""

from lineage.cli.app import main

main()
