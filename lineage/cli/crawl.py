"""`lineage crawl`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lineage.cli.errors import OPERATIONAL
from lineage.cli.options import (
    IndexOption,
    JsonOption,
    OutputOption,
    QuietOption,
    RowKeyOption,
    SeedOption,
    VerboseOption,
    index_path,
    positive,
    use_cache_folder,
)
from lineage.cli.output import writer
from lineage.cli.streams import is_terminal, write_stderr

_PAUSE = 0.5
"""Seconds between two lines of progress."""

AuthorOption = Annotated[str | None, typer.Option("--author", help="Of the source hub: models of one author.")]
FilterOption = Annotated[
    list[str] | None, typer.Option("--filter", metavar="TAG", help="Of the source hub: models with a tag; repeatable.")
]
SearchOption = Annotated[
    str | None, typer.Option("--search", help="Of the source hub: models whose name holds a text.")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="DATE", help="Of the source hub: changed since YYYY-MM-DD.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Of the source hub: at most N models.", min=1)
]
BytesOption = Annotated[
    int | None, typer.Option("--budget-bytes", metavar="N", help="Stop after N bytes received.", callback=positive)
]
RequestsOption = Annotated[
    int | None, typer.Option("--budget-requests", metavar="N", help="Stop after N requests, redirects included.", min=1)
]
JobsOption = Annotated[int, typer.Option("--jobs", metavar="N", help="Models read at one time.", min=1, max=256)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the plan of the run before.")]
EngineOption = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="threads, processes, or ray (extra scale).")
]
ShardsOption = Annotated[
    str | None,
    typer.Option(
        "--shards", metavar="PLACE", help="Workers leave what they read here, as Parquet: a folder, or an address."
    ),
]
TokenOption = Annotated[bool, typer.Option("--use-token", help="Send the user's token; without it none is sent.")]


def command(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE", help="hub, folders, other indexes, files of ids, or -.", show_default=False),
    ] = None,
    index: IndexOption = None,
    author: AuthorOption = None,
    tags: FilterOption = None,
    search: SearchOption = None,
    since: SinceOption = None,
    limit: LimitOption = None,
    budget_bytes: BytesOption = None,
    budget_requests: RequestsOption = None,
    jobs: JobsOption = 4,
    resume: ResumeOption = False,
    engine: EngineOption = "threads",
    shards: ShardsOption = None,
    use_token: TokenOption = False,
    row_key: RowKeyOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    seed: SeedOption = 0,  # noqa: ARG001 - every command takes one; nothing here is drawn by chance
) -> None:
    """Bring an index up to what the Hub, folders or other indexes hold."""
    if not sources and not resume:
        raise typer.BadParameter("name hub, a folder, an index, or a file of ids", param_hint="SOURCE")
    use_cache_folder()
    from crawl.catalogue import Query
    from lineage.crawling import CrawlOptions, crawl
    from lineage.engines import ENGINES
    from lineage.plan import PUBLIC_KEY, load_row_key
    from lineage.report.crawl import crawl_text
    from lineage.visiting import Terms

    if engine not in ENGINES:
        raise typer.BadParameter(f"no engine {engine!r}: {' or '.join(sorted(ENGINES))}", param_hint="--engine")
    query = Query(author, search, tuple(tags or ()), _moment(since), limit)
    if query != Query() and "hub" not in (sources or []):
        raise typer.BadParameter("a query needs the source hub", param_hint="SOURCE")
    write = writer(output, as_json=json_output, quiet=quiet, text=crawl_text)
    terms = Terms(
        authorised=use_token,
        row_key=load_row_key(row_key) if row_key else PUBLIC_KEY,
        per_host=min(jobs, 16),
        budget_bytes=budget_bytes,
        budget_requests=budget_requests,
        shards=shards or "",
    )
    options = CrawlOptions(index_path(index), terms, query, jobs, resume, engine)
    with _progress(quiet=quiet or (json_output and not verbose), verbose=verbose) as tell:
        document = crawl(sources or [], options, tell)
    write(document)
    if any(row["retryable"] for row in document["failed"]):
        raise typer.Exit(OPERATIONAL)


def _moment(text: str | None) -> Any:
    from datetime import UTC, datetime

    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"not a date: {text!r}; write YYYY-MM-DD", param_hint="--since") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@contextmanager
def _progress(*, quiet: bool, verbose: bool) -> Iterator[Callable[[int, int, int], None] | None]:
    """Lines such as "120/2,000 models, 31.2 MB, 35.1 models/s, 54 s left"; None when nobody is looking."""
    terminal = is_terminal(sys.stderr)
    if quiet or not (verbose or terminal):
        yield None
        return
    lines = Lines(end="\r" if terminal else "\n")
    yield lines
    if terminal and lines.told:
        write_stderr("\n")


class Lines:
    """Progress with rate, bytes, and the time that is left at this rate."""

    def __init__(self, end: str = "\n", clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = end
        self._start = clock()
        self._first: int | None = None
        self.told = 0.0

    def __call__(self, done: int, total: int, n_bytes: int) -> None:
        """Tell how far the run is."""
        now = self._clock()
        if self._first is None:
            self._first = done - 1
        if self.told and now - self.told < _PAUSE and done < total:
            return
        self.told = now
        rate = (done - self._first) / max(now - self._start, 1e-6)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 and done < total else ""
        write_stderr(f"{done:,}/{total:,} models, {n_bytes / 1e6:,.1f} MB, {rate:,.1f} models/s{left}   {self._end}")
