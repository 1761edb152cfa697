"""What every scheme offers: what it writes to, a marked copy of weights, and a reading with a p-value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from weightmark.keys import Key
from weightmark.reading import Reading

Strength = Literal["low", "default", "high"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What a scheme can do.

    Attributes
    ----------
    needs_reference : bool
        Verification needs the unmarked original.
    takes_reference : bool
        It is stronger with it.
    payload_bytes : int
        Most bytes it carries; 0 where it carries none.
    zero_distortion : bool
        No value changes, only places do.
    streams : bool
        Read and written in slices; the others hold the arrays they use in memory.
    source : str
        arXiv id, or empty for our own.
    """

    needs_reference: bool = False
    takes_reference: bool = False
    payload_bytes: int = 0
    zero_distortion: bool = False
    streams: bool = False
    source: str = ""


class Scheme(Protocol):
    """One way to mark weights. Pure: arrays by role in, arrays by role out.

    Roles are named as `crawl.Role` prints them, arrays are ``[out, in]``. Everything done to a suspect before carriers
    meet it may depend on the suspect and on the *unmarked* reference, never on the carriers or on marked weights.
    """

    name: str
    version: int
    caps: Caps

    def params(self, strength: Strength) -> Mapping[str, Any]:
        """Values a new key of this strength gets."""
        ...

    def carriers(self, shapes: Mapping[str, tuple[int, ...]], key: Key) -> tuple[str, ...]:
        """Roles of a model of these shapes that the scheme writes to or reads."""
        ...

    def embed(self, weights: Mapping[str, NDArray[Any]], key: Key) -> dict[str, NDArray[Any]]:
        """Marked arrays of the roles that change, to be stored in the dtype they had."""
        ...

    def verify(
        self,
        weights: Mapping[str, NDArray[Any]],
        key: Key,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        reference: Mapping[str, NDArray[Any]] | None = None,
    ) -> Reading:
        """Look for the mark; `shapes` are those of the marked model, `weights` may hold some of its arrays only."""
        ...
