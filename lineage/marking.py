"""The workflows of `lineage mark keygen`, `plan` and `embed`."""

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from crawl import ModelRef, WeightSource, open_model
from lineage.errors import UsageError, words_of
from lineage.issuing import ALL, for_recipient
from lineage.outlining import sketched
from lineage.record import SCHEMA_VERSION, RunRecord, run_entry
from lineage.retraining import comparison, local_folder, loss_on
from weightmark.choices import statistic_needed
from weightmark.embedding import embed
from weightmark.errors import UnusableKeyError, WritingError
from weightmark.fidelity import total
from weightmark.files import carriers_of, model_digest, n_carriers, shapes_of
from weightmark.keys import Key, sealed
from weightmark.scheme import Scheme, Strength
from weightmark.schemes import SCHEMES, dss

Tell = Callable[[str, int, int], None]

LARGEST_EPS = 0.1
"""Largest relative size of a mark that can be asked for in place of a strength."""

FORECASTS: Mapping[str, float] = {
    "16-bit cast": 1.0,
    "noise as large as a third of the weights": 1.0 / math.sqrt(1.0 + 1.0 / 9.0),
    "noise as large as the weights": 1.0 / math.sqrt(2.0),
    "half of the weights pruned by size": 0.96,
    "nine tenths pruned by size": 0.66,
    "merged half and half with the unmarked model": 0.5,
    "mean of two copies with different marks": 0.5,
    "mean of ten copies with different marks": 0.1,
    "a hundredth of the weights read": 0.1,
}
"""Share of the statistic that is left, for normal weights: 1 / sqrt(1 + noise^2), sqrt(energy kept), the merged weight,
1 / copies, sqrt(share read)."""


def schemes() -> dict[str, Any]:
    """The document of `lineage mark schemes`: every row of the table, with what it can do."""
    return {
        "schema_version": SCHEMA_VERSION,
        "schemes": [
            {
                "name": s.name,
                "version": s.version,
                "needs_reference": s.caps.needs_reference,
                "takes_reference": s.caps.takes_reference or s.caps.needs_reference,
                "payload_bytes": s.caps.payload_bytes,
                "zero_distortion": s.caps.zero_distortion,
                "streams": s.caps.streams,
                "source": s.caps.source,
            }
            for s in SCHEMES.values()
        ],
    }


def scheme_named(name: str) -> Scheme:
    """A row of the table.

    Raises
    ------
    UsageError
        There is none of this name.
    """
    if name not in SCHEMES:
        raise UsageError(f"no scheme {name!r}", where="--scheme", hint=f"use one of {', '.join(sorted(SCHEMES))}")
    return SCHEMES[name]


def keygen(scheme: str, strength: Strength, *, payload: bytes, channel: str, eps: float | None = None) -> Key:
    """A fresh key.

    Raises
    ------
    UsageError
        No such scheme, or it carries a shorter payload.
    """
    row = scheme_named(scheme)
    if len(payload) > row.caps.payload_bytes:
        raise UsageError(
            f"{scheme} carries {row.caps.payload_bytes} bytes, not {len(payload)}", where="--payload", hint="shorten it"
        )
    if channel == ALL:
        raise UsageError(f"no recipient is called {ALL}", where="--channel", hint="it stands for every one")
    params = dict(row.params(strength))
    if eps is not None:
        if "eps" not in params:
            raise UsageError(f"{scheme} has no size that could be set", where="--eps", hint="use --strength")
        params["eps"] = eps
    try:
        return Key.new(scheme, params, payload=payload, channel=channel, created=_now())
    except ValueError as error:
        raise UsageError(str(error), where="--channel", hint="name it in plain letters") from error


def recipient(key: Key, channel: str | None) -> Key:
    """The key that marks the copy of a recipient; that of the file itself where none is named.

    Raises
    ------
    UsageError
        No channel can be called so.
    """
    if channel == ALL:
        raise UsageError(f"no recipient is called {ALL}", where="--channel", hint="it stands for every one")
    try:
        return for_recipient(key, key.channel if channel is None else channel)
    except ValueError as error:
        raise UsageError(str(error), where="--channel", hint="name it in plain letters") from error


def write_key(path: Path, key: Key, passphrase: str | None, *, fresh: bool) -> None:
    """Write a key file that nobody else may read; with `fresh`, never over another file.

    Raises
    ------
    UsageError
        There is a file already.
    WritingError
        It cannot be written.
    """
    text = json.dumps(sealed(key, passphrase), indent=1, sort_keys=True) + "\n"
    part = path.parent / f".{path.name}-{secrets.token_hex(6)}"
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            if fresh:
                os.link(part, path)
            else:
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError as error:
        raise UsageError(
            "there is a file already; keys are never overwritten", where=str(path), hint="name another file"
        ) from error
    except OSError as error:
        raise WritingError(f"the key cannot be written ({words_of(error)})", where=str(path)) from error


def plan(ref: str, key: Key) -> dict[str, Any]:
    """What a key would do to a model: where, how strongly, what would be left of it; nothing is written.

    Returns
    -------
    dict
        The document of `schemas/mark-plan-1.json`.
    """
    scheme, start = scheme_of(key), time.perf_counter()
    with open_model(ModelRef.parse(ref)) as source:
        views = carriers_of(source, scheme, key)
        n = n_carriers(views)
        streams = scheme.caps.streams
        eps = dss.strength(key, n) if streams else None
        expected = None if eps is None else eps * math.sqrt(n)
        record = _record("mark plan", source, key, start)
        return {
            "schema_version": SCHEMA_VERSION,
            "record": record.as_dict(),
            "scheme": scheme.name,
            "key_id": key.id,
            "tensors": len(views),
            "carriers": n,
            "strength": eps,
            "statistic": expected,
            "needed": {
                "1e-6": round(statistic_needed(math.log(1e-6), key.payload), 3),
                "2^-128": round(statistic_needed(-128.0 * math.log(2.0), key.payload), 3),
            },
            "forecast": [{"after": name, "statistic": round(expected * share, 3)} for name, share in FORECASTS.items()]
            if expected is not None
            else [],
            "roles": sorted(views),
        }


def mark(
    ref: str,
    key: Key,
    out: Path,
    *,
    force: bool = False,
    sketch: Path | None = None,
    text: bytes = b"",
    tell: Tell | None = None,
) -> tuple[dict[str, Any], Key]:
    """Write a marked copy of a model.

    Parameters
    ----------
    ref : str
        A local model.
    key : Key
    out : Path
        The folder of the copy.
    force : bool
        Mark more strongly than is allowed.
    sketch : Path, optional
        Where a sketch of the model as it is goes, before anything is marked; the key then names it.
    text : bytes
        Where there is one, both models predict it, and the document says how much worse the copy does (extra `torch`).
    tell : callable, optional
        Called with (stage, done, total).

    Returns
    -------
    dict, Key
        The document of `schemas/mark-embed-1.json`; and the key, which now knows what it marked.

    Raises
    ------
    UnusableKeyError
        The key has marked a model before: two marks of one key could not be told apart.
    """
    scheme, start = scheme_of(key), time.perf_counter()
    if key.host.get("marked_digest"):
        raise UnusableKeyError(
            "this key has marked a model already", where=key.id, hint="make another, or use another --channel"
        )
    before = loss_on(local_folder(ref), text) if text else None
    with open_model(ModelRef.parse(ref)) as source:
        unmarked = model_digest(source)
        with sketched(source, key, sketch, unmarked, tell) as outline:
            written = embed(source, scheme, key, out, force=force, tell=tell)
        shapes = {role: list(shape) for role, shape in shapes_of(carriers_of(source, scheme, key)).items()}
        record = _record("mark embed", source, key, start)
    with open_model(_beside(out, source)) as copy:
        marked = model_digest(copy)
    host = {"unmarked_digest": unmarked, "marked_digest": marked, "n_carriers": written.carriers, "shapes": shapes}
    if outline is not None:
        host |= {"sketch": {"sha256": outline["sha256"], "kinds": outline["kinds"]}}
    whole = total(written.changes.values())
    document = {
        "schema_version": SCHEMA_VERSION,
        "record": record.as_dict(),
        "scheme": scheme.name,
        "key_id": key.id,
        "out": str(out),
        "carriers": written.carriers,
        "strength": written.strength,
        "statistic": None if math.isnan(written.statistic) else written.statistic,
        "unmarked_digest": unmarked,
        "marked_digest": marked,
        "left_out": list(written.left_out),
        "sketch": outline,
        "fidelity": whole.as_dict() | {"roles": {r: c.as_dict() for r, c in sorted(written.changes.items())}},
    }
    if before is not None:
        document["text"] = comparison(before, loss_on(out, text))
    return document, replace(key, host=host)


def scheme_of(key: Key) -> Scheme:
    """The row a key belongs to.

    Raises
    ------
    UnusableKeyError
        This program has no such scheme, or a later version of it.
    """
    row = SCHEMES.get(key.scheme)
    if row is None or key.scheme_version != row.version:
        raise UnusableKeyError(
            f"a key of scheme {key.scheme} version {key.scheme_version}, which this program does not know",
            where=key.id,
            hint="use the version of lineage that made it",
        )
    check_params(row, key.params, where=f"a key of channel {key.channel}")
    return row


def check_params(scheme: Scheme, params: Mapping[str, Any], *, where: str) -> None:
    """Refuse parameters that `keygen` does not write.

    Key files and claims are anybody's. Matrices, clips and sizes picked after a look at a suspect would be picked to suit
    it, and p counts no such choice: all but `eps`, which verification does not use, are those of a strength.

    Raises
    ------
    UnusableKeyError
        They are none that the scheme has.
    """
    presets = [dict(scheme.params(strength)) for strength in get_args(Strength)]
    eps = params.get("eps", 0.0)
    sized = "eps" in presets[0] and isinstance(eps, (int, float)) and 0.0 <= eps <= LARGEST_EPS
    if not any(dict(params) == preset | ({"eps": eps} if sized else {}) for preset in presets):
        raise UnusableKeyError(
            f"its parameters are none that {scheme.name} has", where=where, hint="use a copy of it as it was made"
        )


def _beside(out: Path, source: WeightSource) -> ModelRef:
    """The copy of what `source` is, in its new place."""
    if source.ref.scheme == "file":
        return ModelRef("file", str(out / Path(source.ref.location).name))
    return ModelRef("dir", str(out), None, source.ref.variant)


def _record(command: str, source: WeightSource, key: Key, start: float) -> RunRecord:
    record = RunRecord(
        command=command,
        seed=0,
        parameters={"key_id": key.id},
        inputs=[{"id": source.ref.id, "header_digest": source.header_digest()}],
    )
    record.run.update(run_entry([source.ref.id], [source], time.perf_counter() - start))
    return record


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
