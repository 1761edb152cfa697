"""The schemes: one file and one row each."""

from collections.abc import Mapping

from weightmark.scheme import Scheme
from weightmark.schemes.dss import Dss

SCHEMES: Mapping[str, Scheme] = {
    "dss": Dss(),
}
"""By the name that key files carry."""
