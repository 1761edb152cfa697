"""Tree documents nobody measured: random forests with merges, copies, open links and common starts."""

import random

KINDS = ("fine-tune", "continued-pretraining", "lora-merge", "quantized", "cast", "prune", "depth-prune")
ORGANISATIONS = ("acme", "blue-lab", "corvid-research", "d", "some-quite-long-organisation-name")
WORDS = ("base", "chat", "instruct", "code", "math", "v2", "de", "medical-questions", "long-context-extended", "dpo")


def entry_of_node(name, component, rng=None, **more):
    rng = rng or random.Random(ascii(name))  # noqa: S311 - no secret
    return {
        "id": name,
        "ref": name,
        "component": component,
        "architecture": rng.choice(("llama", "gpt2", "qwen2", "bert")),
        "parameters": rng.choice((125_000_000, 1_100_000_000, 6_738_415_616, 70_553_706_496)),
        "dtype": rng.choice(("BF16", "F16", "F32")),
        "declared": [],
        "duplicate_of": None,
        "testable": True,
        "virtual": False,
        **more,
    }


def entry_of_edge(parent, child, kind="fine-tune", **more):
    return {
        "parent": parent,
        "child": child,
        "kind": kind,
        "probability": 0.9,
        "direction_probability": 0.95,
        "log10_p": -157.25,
        "exactness": "exact",
        "probability_with_metadata": None,
        "coefficient": None,
        "evidence": {"signals": []},
        **more,
    }


def open_link(a, b, reason="direction-undetermined", kind=None, log10_p=-120.5):
    named = {"sibling": "sibling", "shared-init": "shared-init"}.get(reason, "fine-tune")
    return {"a": a, "b": b, "kind": kind or named, "log10_p": log10_p, "reason": reason}


def document(nodes, edges=(), unresolved=(), components=None, skipped=()):
    """A document of these parts; components are what the links join when none are given."""
    if components is None:
        components = _components(nodes, edges, unresolved)
    n = sum(e["duplicate_of"] is None for e in nodes)
    return {
        "schema_version": 1,
        "record": {
            "tool": "lineage-forensics",
            "version": "0.1.0",
            "command": "tree",
            "parameters": {},
            "seed": 0,
            "libraries": {},
            "python": "3.11.0",
            "platform": "Linux x86_64",
            "inputs": [],
            "run": {"seconds": 1.5, "bytes_read": 1000 * len(nodes), "requests": 7, "inputs": [{}] * len(nodes)},
        },
        "alpha": 1e-6,
        "family_size": n * (n - 1) // 2,
        "level_used": 1e-6 / max(1, n * (n - 1) // 2),
        "probabilities": {"calibrated_on": {"population": "drawn by chance", "n": 0, "ece": None}},
        "nodes": list(nodes),
        "edges": list(edges),
        "components": components,
        "unresolved": list(unresolved),
        "skipped": list(skipped),
    }


def _components(nodes, edges, unresolved):
    part = {n["id"]: n["id"] for n in nodes if n["duplicate_of"] is None}

    def top(name):
        while part[name] != name:
            name = part[name]
        return name

    for a, b in [(e["parent"], e["child"]) for e in edges] + [(u["a"], u["b"]) for u in unresolved]:
        low, high = sorted((top(a), top(b)))
        part[high] = low
    groups = {}
    for name in sorted(part):
        groups.setdefault(top(name), []).append(name)
    number = {i: k for k, group in enumerate(groups.values()) for i in group}
    for node in nodes:
        node["component"] = number[node["duplicate_of"] or node["id"]]
    children = {e["child"] for e in edges}
    made = []
    for k, group in enumerate(groups.values()):
        roots = [i for i in group if i not in children][:1] or group[:1]
        made.append({"id": k, "roots": roots, "root_probabilities": [0.9], "size": len(group), "hidden_ancestor": None})
    return made


def forest(n, seed=0, names=None):
    """A document of n nodes: families of many sizes, a tenth merges, copies, open links, starts, and loners.

    Parameters
    ----------
    n : int
        Nodes, copies among them.
    seed : int
    names : callable, optional
        From a number and a generator to a name; names with words and organisations by default.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    taken = set()
    nodes, edges, unresolved = [], [], []

    def name():
        made = (names or _name)(len(nodes), rng)
        made = made if made not in taken else f"{made}-{len(nodes)}"
        taken.add(made)
        return made

    def add(**more):
        nodes.append(entry_of_node(name(), 0, rng, **more))
        return nodes[-1]["id"]

    while len(nodes) < n:
        size = min(n - len(nodes), rng.choice((1, 1, 1, 2, 3, 5, 8, n // 8, n // 4) if n > 8 else (1, 4)))
        _family(rng, size, add, edges, unresolved)
    rng.shuffle(nodes)
    return document(nodes, edges, unresolved)


def _name(number, rng):
    words = "-".join(rng.sample(WORDS, rng.randint(1, 4)))
    return f"{rng.choice(ORGANISATIONS)}/{words}-{number}"


def _family(rng, size, add, edges, unresolved):
    members = [add()]
    is_open = rng.random() < 0.3
    parents = {}
    while size > len(members):
        if rng.random() < 0.08:
            add(duplicate_of=rng.choice(members))
            size -= 1
            continue
        parent = members[0] if rng.random() < 0.5 else rng.choice(members)
        child = add()
        if not is_open and len(members) > 2 and rng.random() < 0.15:
            chosen = rng.sample(members, 2 + (rng.random() < 0.3))
            shares = [round(1.0 / len(chosen), 2)] * len(chosen)
            edges += [entry_of_edge(p, child, "merge", coefficient=c) for p, c in zip(chosen, shares, strict=True)]
            parents[child] = chosen
        elif is_open or rng.random() < 0.1:
            unresolved.append(open_link(*sorted((parent, child)), kind=rng.choice(KINDS)))
        else:
            edges.append(entry_of_edge(parent, child, rng.choice(KINDS), probability=round(rng.uniform(0.4, 1.0), 6)))
            unresolved += [open_link(*sorted((c, child)), "sibling") for c, ps in parents.items() if ps == [parent]]
            parents[child] = [parent]
        members.append(child)
    if len(members) > 2 and rng.random() < 0.4:
        other = add()
        unresolved += [open_link(*sorted((m, other)), "shared-init") for m in members]
