"""The search of an index: what rewriting leaves of a vector, exact and approximate search against loops, planted parents."""

import numpy as np
import pytest

import derive
import planted
from disguised import permuted, turned
from lineage.errors import MalformedDocumentError
from lineage.index.backends import BACKENDS
from lineage.index.finding import Finder, likenesses
from lineage.index.matrix import is_search_file_sound, sign_matrix, words_of
from lineage.index.store import Store
from lineage.index.vectors import FIELDS, FREE, LABELLED, N_SIGNS, Vector, vector_of
from nulls import ROOT, signature_of

ZOO = ROOT / "fixtures" / "zoo"
N = 1500


def vector(name, change=lambda w: w):
    return vector_of(signature_of(change(derive.load(ZOO / name)), "x"))


def cosine(a, b, name):
    agree = planted.compared(a, b).agreement[name]
    return np.cos(np.pi * (1.0 - agree))


@pytest.fixture(scope="module")
def base():
    return vector("llama-a")


def test_less_than_a_kilobyte_is_searched(base):
    assert N_SIGNS // 8 < 1000
    assert len(base.to_bytes()) < 5000


def test_a_vector_comes_back(base):
    back = Vector.from_bytes(base.to_bytes())
    assert back.to_bytes() == base.to_bytes()
    assert (back.layout, back.tokens, back.held) == (base.layout, base.tokens, base.held)
    assert np.array_equal(back.fine, base.fine)


@pytest.mark.parametrize("data", [b"", b"\0" * 4904, b"\xff" * 4904, b"\x01\x00" * 4])
def test_what_is_no_vector_is_refused(data):
    with pytest.raises(MalformedDocumentError):
        Vector.from_bytes(data)
    with pytest.raises(MalformedDocumentError):
        likenesses(vector("micro-00"), [data])


def test_a_model_is_its_own_nearest(base):
    other = vector("llama-a")
    assert other.to_bytes() == base.to_bytes()


def test_hidden_permutations_leave_what_is_not_hidden(base):
    other = vector("llama-a", lambda w: permuted(w, np.random.default_rng(1)))
    assert [cosine(base, other, name) for name in ("gains", "tables", *FREE)] == [1.0] * 4
    assert cosine(base, other, "units") < 0.3


def test_rotations_leave_answers_and_inner_products(base):
    other = vector("llama-a", lambda w: turned(w, np.random.default_rng(1)))
    assert cosine(base, other, "answers") > 0.9
    assert all(cosine(base, other, name) > 0.9 for name in FREE)
    assert abs(cosine(base, other, "tables")) < 0.2


def test_scales_of_units_and_of_tokens_leave_a_vector_alone(base):
    def scaled(w):
        rng = np.random.default_rng(2)
        name = "model.embed_tokens.weight"
        factors = 2.0 ** rng.integers(-2, 3, (w[name].shape[0], 1))
        return {**w, name: (w[name].astype(np.float64) * factors).astype(w[name].dtype)}

    other = vector("llama-a", scaled)
    assert cosine(base, other, "tables") > 0.95
    assert cosine(base, other, "units") == 1.0


def test_strangers_agree_by_chance():
    pairs = planted.strangers([f"micro-{i:02d}" for i in range(8)])
    for name in LABELLED:
        far = [(2.0 * p.agreement[name] - 1.0) * np.sqrt(FIELDS[name]) for p in pairs]
        assert np.max(np.abs(far)) < 5.0, name
        assert abs(np.mean(far)) < 1.5, name
    assert max(np.mean(p.fine) for p in pairs) < 0.3


def test_the_width_does_not_matter_to_inner_products(base):
    signature = signature_of(derive.load(ZOO / "llama-a"), "x")
    other = vector_of(planted.narrowed(signature, np.arange(0, 64, 2)))
    assert other.layout != base.layout
    assert other.tokens == base.tokens
    (likely,) = likenesses(base, [other.to_bytes()])
    assert likely > 0.4
    assert likenesses(base, [vector("llama-b").to_bytes()])[0] < 0.3


def test_other_keys_and_unknown_architectures_are_not_compared(base):
    from lineage.plan import RowKey
    from lineage.reading import sign
    from nulls import opened

    with opened(derive.load(ZOO / "llama-a"), "x") as source:
        other = vector_of(sign(source, key=RowKey("secret", b"0123456789abcdef")))
    assert other.layout != base.layout
    assert other.tokens != base.tokens
    assert vector_of(signature_of({"a.weight": np.ones((80, 80), np.float32)}, "x")) is None


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """An index of planted strangers in three layouts, and the vectors behind it."""
    rng = np.random.default_rng(0)
    law = planted.Law.of(planted.strangers([f"micro-{i:02d}" for i in range(6)]))
    world = planted.World(law, rng)
    layout = rng.integers(0, 3, N)
    signs, fine = world.unrelated(N, layout % 2)
    rows = zip(signs, fine, layout.tolist(), (layout % 2).tolist(), strict=True)
    vectors = [planted.made(*row) for row in rows]
    path = tmp_path_factory.mktemp("planted") / "i.db"
    with Store.open(path, create=True) as store, store.transaction():
        for i in rng.permutation(N).tolist():
            store.put_model(planted.entry(i, vectors[i]))
    return path, vectors, world


def by_loops(vectors, query, name, ranges_of):
    """Every number of differing signs, one model after the other."""
    found = []
    for i, v in enumerate(vectors):
        if ranges_of(v):
            part = planted.SPANS[name]
            found.append((int(sum((x).bit_count() for x in (v.signs[part] ^ query.signs[part]).tolist())), i))
    return found


def numbered(matrix, store, rows):
    names = {n: int(i[9:16]) for n, i in store.rows("SELECT number, id FROM models")}
    return [names[int(matrix.numbers[row])] for row in rows.tolist()]


def agreements_with_loops(backend, index):
    """Searches that returned the distances and the rows that loops return; how many there were."""
    path, vectors, _world = index
    n = 0
    with Store.open(path) as store:
        matrix = sign_matrix(store)
        nearest = BACKENDS[backend](matrix)
        for number in (3, 700, 1400):
            query = vectors[number]
            for name in FIELDS:
                by_labels = name in LABELLED
                ranges = matrix.ranges(**({"layout": query.layout} if by_labels else {"tokens": query.tokens}))
                rows, gaps = nearest(name, words_of(query, name), ranges, 20)
                loops = by_loops(
                    vectors,
                    query,
                    name,
                    lambda v, q=query, b=by_labels: v.layout == q.layout if b else v.tokens == q.tokens,
                )
                assert gaps.tolist() == [gap for gap, _ in sorted(loops)[:20]]
                wanted = {i: gap for gap, i in loops}
                assert [wanted[i] for i in numbered(matrix, store, rows)] == gaps.tolist()
                assert rows[0] in rows[gaps == 0]
                n += 1
    return n


def test_the_exact_search_finds_what_loops_find(index):
    assert agreements_with_loops("exact", index) == 3 * len(FIELDS)


@pytest.mark.outside("usearch")
def test_the_graph_finds_what_loops_find(index):
    assert agreements_with_loops("usearch", index) == 3 * len(FIELDS)


def test_a_mapped_matrix_is_the_one_that_was_made(index, tmp_path):
    path, vectors, _ = index
    with Store.open(path) as store:
        first = sign_matrix(store)
        stamp = path.with_name(path.name + ".search").stat().st_mtime_ns
        second = sign_matrix(store)
        assert path.with_name(path.name + ".search").stat().st_mtime_ns == stamp
        assert is_search_file_sound(store)
        for name in FIELDS:
            assert np.array_equal(first.fields[name], second.fields[name])
        order = numbered(first, store, np.arange(N))
        assert sorted(order) == list(range(N))
        for row in (0, 77, N - 1):
            assert np.array_equal(first.fields["units"][:, row], words_of(vectors[order[row]], "units"))
    data = bytearray(path.with_name(path.name + ".search").read_bytes())
    data[-5] ^= 1
    path.with_name(path.name + ".search").write_bytes(data)
    with Store.open(path) as store:
        assert not is_search_file_sound(store)
    path.with_name(path.name + ".search").unlink()


def test_an_old_matrix_is_made_again(tmp_path, base):
    with Store.open(tmp_path / "i.db", create=True) as store:
        store.put_model(planted.entry(1, base))
        assert [c.id for c in Finder(store).candidates(base)] == [planted.entry(1, base).id]
        store.put_model(planted.entry(2, base))
        assert len(Finder(store).candidates(base)) == 2
        store.remove(planted.entry(1, base).id)
        assert [c.id for c in Finder(store).candidates(base)] == [planted.entry(2, base).id]
    (tmp_path / "i.db.search").write_bytes(b"LNGSIGNS" + b"\xff" * 100)
    with Store.open(tmp_path / "i.db") as store:
        assert len(Finder(store).candidates(base)) == 1


def test_an_empty_index_has_no_candidates(tmp_path, base):
    with Store.open(tmp_path / "i.db", create=True) as store:
        finder = Finder(store)
        assert finder.candidates(base) == []
        assert finder.products(base) == []


def test_planted_parents_are_found(index):
    """The small version of docs/methods/searching-measured.md."""
    path, vectors, world = index
    classes = planted.measured(1)
    missed = []
    with Store.open(path) as store:
        finder = Finder(store)
        for number, (kind, pairs) in enumerate(sorted(classes.items())):
            for k, pair in enumerate(pairs):
                parent = vectors[17 * number + k]
                signs, fine = world.descendant(parent.signs, parent.fine, pair)
                layout = parent.layout if pair.same_layout else b"?" * 16
                found = finder.candidates(Vector(layout, parent.tokens, parent.held, signs, fine))
                if planted.entry(17 * number + k, parent).id not in [c.id for c in found]:
                    missed.append(kind)
    assert missed == []
    assert len(classes) >= 18


def test_those_left_out_are_not_candidates(index):
    path, vectors, _ = index
    name = planted.entry(3, vectors[3]).id
    with Store.open(path) as store:
        finder = Finder(store)
        assert finder.candidates(vectors[3])[0].id == name
        assert name not in [c.id for c in finder.candidates(vectors[3], without=(name,))]
        strengths = [c.strength for c in finder.candidates(vectors[3])]
        assert strengths == sorted(strengths, reverse=True)
