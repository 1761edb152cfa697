"""The schemes: one file and one row each."""

from collections.abc import Mapping

from weightmark.scheme import Scheme
from weightmark.schemes.dss import Dss
from weightmark.schemes.emmark import EmMark
from weightmark.schemes.gaussmark import GaussMark
from weightmark.schemes.gram import Gram
from weightmark.schemes.hufunet import HufuNet
from weightmark.schemes.lastbias import LastBias
from weightmark.schemes.perm import Perm
from weightmark.schemes.quantgap import QuantGap
from weightmark.schemes.tattooed import Tattooed
from weightmark.schemes.uchida import Uchida

SCHEMES: Mapping[str, Scheme] = {
    "dss": Dss(),
    "emmark": EmMark(),
    "gaussmark": GaussMark(),
    "gram": Gram(),
    "hufunet": HufuNet(),
    "lastbias": LastBias(),
    "perm": Perm(),
    "quantgap": QuantGap(),
    "tattooed": Tattooed(),
    "uchida": Uchida(),
}
"""By the name that key files carry."""
