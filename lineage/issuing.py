"""One key file for many recipients: what it knows of each marked copy, and the key that looks for it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from weightmark.keys import Key

ALL = "all"
"""Stands for every recipient that a key file knows, so that none is called so."""

_KEPT = ("unmarked_digest", "marked_digest", "n_carriers", "sketch")


def recipients_of(key: Key) -> tuple[str, ...]:
    """Channels that a key file knows: its own, and those of copies it marked, by name."""
    return (key.channel, *sorted(set(_copies(key)) - {key.channel}))


def for_recipient(key: Key, channel: str) -> Key:
    """The key of a recipient, with what the file knows of his copy: nothing before it is marked.

    Raises
    ------
    ValueError
        No channel can be called so.
    """
    if channel == key.channel:
        return replace(key, host={k: v for k, v in key.host.items() if k != "copies"})
    known = _copies(key).get(channel, {})
    host = {k: v for k, v in known.items() if k in (*_KEPT, "shapes")}
    if host and "shapes" in key.host:
        host.setdefault("shapes", key.host["shapes"])
    return replace(key, channel=channel, host=host)


def with_copy(key: Key, marked: Key) -> Key:
    """The key to be kept after a copy was marked for a recipient.

    Parameters
    ----------
    key : Key
        As its file holds it.
    marked : Key
        Of the recipient, knowing what it marked.

    Returns
    -------
    Key
        Of the channel of the file. Shapes of carriers are kept once where copies agree in them.
    """
    host: dict[str, Any] = dict(key.host)
    if marked.channel == key.channel:
        kept = {"copies": host["copies"]} if "copies" in host else {}
        return replace(key, host={**marked.host, **kept})
    copy = {k: marked.host[k] for k in _KEPT if k in marked.host}
    shapes = marked.host.get("shapes")
    if shapes is not None and host.setdefault("shapes", shapes) != shapes:
        copy["shapes"] = shapes
    return replace(key, host={**host, "copies": {**_copies(key), marked.channel: copy}})


def _copies(key: Key) -> dict[str, Mapping[str, Any]]:
    """What the file says of copies; a file is anybody's, so what is no table is nothing."""
    held = key.host.get("copies")
    if not isinstance(held, dict):
        return {}
    return {name: entry for name, entry in held.items() if isinstance(entry, dict) and _is_name(name)}


def _is_name(text: str) -> bool:
    return bool(text) and "|" not in text and text.isprintable()
