"""One text for equal JSON values, so that digests and signatures of them can be checked by anyone."""

from typing import Any

import rfc8785


def canonical(value: Any) -> bytes:
    """JSON by RFC 8785: names in order, no spaces, one spelling for each number.

    Raises
    ------
    ValueError
        The value has no such text: a number that is not finite or beyond 2^53, or a name that is no text.
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(str(error)) from error
