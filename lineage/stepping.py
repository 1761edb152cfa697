"""The second reading of a related pair: what was done to one model to make the other."""

from collections.abc import Callable

from crawl import OpenOptions, WeightSource, open_model
from lineage.change import measure_change
from lineage.peeling import is_worth_peeling, peeled
from lineage.plan import RowKey
from lineage.relation import Relation
from lineage.signature import Signature
from lineage.study import study, study_bytes

Opened = tuple[WeightSource, Signature]


def steps_between(a: Opened, b: Opened, key: RowKey, max_bytes: int | None = None) -> Relation | None:
    """Steps between two opened models that a test relates.

    Parameters
    ----------
    a, b : (WeightSource, Signature)
        Each opened model with what the ladder read of it.
    key : RowKey
        Places the rows.
    max_bytes : int, optional
        Most bytes read of one model, those it has read already included.

    Returns
    -------
    Relation or None
        None where no step can be told, or a second reading would go beyond the limit.

    Raises
    ------
    CrawlError
        Bytes are missing, malformed or cannot be fetched.

    Notes
    -----
    Cost: nothing where the ladder saw no trace of a step, else that of `lineage.study.study` and `lineage.peeling.peeled`.
    """
    change = measure_change(a[1], b[1])
    if not is_worth_peeling(a[1], b[1], change):
        return None
    if max_bytes is not None and any(s.bytes_read + study_bytes(s) > max_bytes for s, _ in (a, b)):
        return None
    first, second = (study(source, key, name=source.ref.id) for source, _ in (a, b))
    return None if first is None or second is None else peeled(first, second)


def steps_of(
    a: Signature, b: Signature, key: RowKey, max_bytes: int | None, options: OpenOptions | None
) -> Callable[[], Relation | None]:
    """The same as a question that opens both models only when it is asked."""

    def ask() -> Relation | None:
        with open_model(a.ref, options=options) as left, open_model(b.ref, options=options) as right:
            return steps_between((left, a), (right, b), key, max_bytes)

    return ask
