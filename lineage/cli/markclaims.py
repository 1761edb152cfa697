"""`lineage mark commit` and `lineage mark contest`."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lineage.cli.files import check_target, write_file
from lineage.cli.options import JsonOption, OutputOption, QuietOption, use_cache_folder
from lineage.cli.output import to_json, writer
from lineage.cli.streams import write_stderr

if TYPE_CHECKING:
    from weightmark.keys import Key

KeyOption = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The key the model was marked with.")]
PassphraseOption = Annotated[
    bool, typer.Option("--passphrase", help="Ask for the passphrase of the key, or take $LINEAGE_PASSPHRASE.")
]
RootsOption = Annotated[
    Path | None,
    typer.Option("--roots", metavar="PEM", help="Certificates of the time-stamp authorities that are trusted."),
]

_MOST_STAMP = 1 << 16
_MOST_ROOTS = 1 << 20


def commit(
    model: Annotated[str | None, typer.Argument(help="The marked model.", show_default=False)] = None,
    original: Annotated[
        str | None, typer.Option("--original", metavar="REF", help="The unmarked model it was made of.")
    ] = None,
    key: KeyOption = None,
    passphrase: PassphraseOption = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The claim, to be published.")] = None,
    opening: Annotated[
        Path | None, typer.Option("--opening", metavar="FILE", help="What opens it, to be kept secret until then.")
    ] = None,
    share: Annotated[
        float,
        typer.Option(
            "--share", metavar="X", help="Share of the tensors whose keys the opening shows; 1 shows the secret."
        ),
    ] = 1.0,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="PEM", help="Ed25519 key to sign the claim with.")
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option("--request", metavar="FILE", help="Write the question to a time-stamp authority here."),
    ] = None,
    claim: Annotated[
        str | None, typer.Option("--claim", metavar="FILE", help="Stamp this claim in place of making one.")
    ] = None,
    stamp: Annotated[
        Path | None, typer.Option("--stamp", metavar="FILE", help="The authority's answer, RFC 3161.")
    ] = None,
    roots: RootsOption = None,
) -> None:
    """Commit to a marked model, its original and the key, before release; then stamp the claim with a time."""
    if out is None:
        raise typer.BadParameter("name the file of the claim", param_hint="--out")
    check_target(out)
    if claim is not None:
        if stamp is None or roots is None:
            raise typer.BadParameter("--claim goes with --stamp and --roots", param_hint="--claim")
        _stamp(claim, stamp, roots, out)
        return
    if model is None or original is None or key is None or opening is None:
        raise typer.BadParameter("name the marked model, --original, --key and --opening", param_hint="MODEL")
    if not 0.0 < share <= 1.0:
        raise typer.BadParameter("a share lies above 0 and at most at 1", param_hint="--share")
    for path in (opening, request):
        if path is not None:
            check_target(path)
    use_cache_folder()
    from datetime import UTC, datetime

    from lineage.claiming import commit as committed
    from lineage.claiming import signing_key

    word = passphrase_of() if passphrase else None
    signer = None if sign is None else signing_key(sign, None)
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made, secret = committed(model, original, read_key(key, word), signer=signer, share=share, created=created)
    _write_secret(opening, to_json(secret))
    write_file(out, to_json(made))
    if request is not None:
        _write_request(request, made)


def _stamp(claim: str, stamp: Path, roots: Path, out: Path) -> None:
    from lineage.claiming import read_entry, with_stamp
    from lineage.errors import MalformedDocumentError
    from weightmark.claims import FORMAT

    entry = read_entry(claim, FORMAT)
    try:
        stamped = with_stamp(entry, _bytes(stamp, _MOST_STAMP), _bytes(roots, _MOST_ROOTS))
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedDocumentError(str(error), where=str(stamp), hint="ask again with --request") from error
    write_file(out, to_json(stamped))


def _write_request(path: Path, claim: dict[str, Any]) -> None:
    from lineage.claiming import to_stamp
    from weightmark.attest import stamp_request

    path.write_bytes(stamp_request(to_stamp(claim)))
    write_stderr(f"lineage: send {path} to a time-stamp authority, then --claim, --stamp and --roots\n")


def _write_secret(path: Path, text: str) -> None:
    """For nobody else to read: the file is made before anything is in it."""
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    write_file(path, text)


def _bytes(path: Path, most: int) -> bytes:
    from lineage.errors import MalformedDocumentError, UnreadableDocumentError, words_of
    from lineage.inputs import read_bounded

    try:
        data = read_bounded(str(path), most)
    except OSError as error:
        raise UnreadableDocumentError(f"cannot be read ({words_of(error)})", where=str(path)) from error
    if len(data) > most:
        raise MalformedDocumentError(f"more than {most:,} bytes", where=str(path))
    return data


def read_key(path: Path, passphrase: str | None) -> "Key":
    """A key from its file."""
    from lineage.errors import MalformedDocumentError
    from weightmark.keys import opened

    try:
        entry = json.loads(_bytes(path, 1 << 20))
    except (ValueError, RecursionError) as error:
        raise MalformedDocumentError("not a key of this program", where=str(path)) from error
    return opened(entry, passphrase, where=str(path))


def passphrase_of(*, twice: bool = False) -> str:
    """The passphrase of $LINEAGE_PASSPHRASE, else asked for, twice where one is made; empty where there is nobody to ask.

    An empty one for a key that is made would be none at all.
    """
    word = os.environ.get("LINEAGE_PASSPHRASE")
    if word is None and sys.stdin.isatty():
        word = str(typer.prompt("Passphrase", hide_input=True, err=True, confirmation_prompt=twice))
    if not word and twice:
        raise typer.BadParameter("an empty passphrase keeps nothing secret", param_hint="--passphrase")
    return word or ""


def contest(
    claims: Annotated[list[str], typer.Option("--claims", metavar="FILE", help="The two claims, first a, then b.")],
    openings: Annotated[list[str], typer.Option("--openings", metavar="FILE", help="What opens each of them.")],
    originals: Annotated[
        list[str], typer.Option("--originals", metavar="REF", help="The unmarked model of each side.")
    ],
    roots: RootsOption = None,
    json_output: JsonOption = False,
    output: OutputOption = None,
    quiet: QuietOption = False,
) -> None:
    """Decide between two claims: whose mark is in the other's original, else whose time stamp is earlier."""
    for name, given in (("--claims", claims), ("--openings", openings), ("--originals", originals)):
        if len(given) != 2:
            raise typer.BadParameter("give it twice, for a and for b", param_hint=name)
    use_cache_folder()
    from lineage.claiming import OPENING, read_entry
    from lineage.cli.errors import NEGATIVE
    from lineage.contesting import contest as decide
    from lineage.report.contest import contest_text
    from weightmark.claims import FORMAT

    write = writer(output, as_json=json_output, quiet=quiet, text=contest_text)
    sides = [(read_entry(c, FORMAT), read_entry(o, OPENING)) for c, o in zip(claims, openings, strict=True)]
    document = decide(sides, originals, roots=None if roots is None else _bytes(roots, _MOST_ROOTS))
    write(document)
    raise typer.Exit(0 if document["winner"] else NEGATIVE)
