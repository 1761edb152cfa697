"""The transport of a run: budgets, limits, repeats and places, under the Hub's own client and under ours."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import HfApi

from crawl import OpenOptions, open_model
from crawl.errors import BudgetSpentError, NetworkError
from crawl.stores.traffic import Traffic, is_loopback, is_private
from hub import Fault, Hub, Repo


@pytest.fixture(scope="module")
def server():
    with Hub(page=4) as hub:
        yield hub


@pytest.fixture
def hub(server, pack_arrays):
    wide = {"model.safetensors": pack_arrays({"w": np.arange(200_000, dtype=np.float32).reshape(200, 1000)})}
    server.repos = {f"org/m{i}": Repo(wide, tags=["x"]) for i in range(10)}
    server.faults, server.log, server.moved = [], [], {}
    server.chance = lambda *_: None
    return server


@pytest.fixture
def traffic(hub):
    slept = []
    options = OpenOptions(endpoint=hub.endpoint, token=False, sleep=slept.append, read_seconds=2.0, attempts=3)

    def made(**rest):
        limits = {k: rest.pop(k) for k in ("budget_bytes", "budget_requests", "per_host") if k in rest}
        return Traffic(replace(options, **rest), **limits)

    made.slept = slept
    return made


def reading(traffic, name="org/m1"):
    return open_model(f"hf://{name}", options=replace(traffic.options, traffic=traffic))


def test_every_exchange_is_counted_whoever_asks(hub, traffic):
    with traffic().installed() as t, reading(t) as source:
        source.rows(source.tensors["w"], [150])
        list(HfApi(endpoint=hub.endpoint, token=False).list_models(sort="last_modified"))
        assert t.exchanges == len(hub.log) == 1 + 2 + 1 + 3
        assert t.bytes_received == sum(s.body_bytes for s in hub.log)


@pytest.mark.parametrize("status", ["429", "503"])
def test_what_the_hubs_client_never_repeats_is_repeated(hub, traffic, status):
    hub.faults = [Fault("/api/models/org/m1", status, times=2, headers={"Retry-After": "1000000000"})]
    with traffic(longest_wait_seconds=7.0).installed() as t:
        assert HfApi(endpoint=hub.endpoint, token=False).model_info("org/m1").id == "org/m1"
    assert (t.exchanges, t.repeats) == (3, 2)
    assert traffic.slept == [7.0, 7.0]


def test_a_stalled_listing_ends(hub, traffic):
    hub.faults = [Fault("/api/models", "stall", times=9)]
    with traffic(read_seconds=0.1).installed(), pytest.raises(NetworkError, match="3 attempts"):
        list(HfApi(endpoint=hub.endpoint, token=False).list_models())


def test_a_body_that_drips_ends(hub, traffic):
    with traffic(deadline_seconds=0.2, attempts=1).installed() as t, reading(t) as source:
        hub.faults = [Fault("org/m1/model", "slow", times=9)]
        with pytest.raises(NetworkError, match=r"(?i)time"):
            source.rows(source.tensors["w"], [150])


@pytest.mark.parametrize(
    ("limit", "spent"), [({"budget_requests": 2}, "requests"), ({"budget_bytes": 50_000}, "bytes")]
)
def test_budgets_end_a_run(hub, traffic, limit, spent):
    def both(t):
        for name in ("org/m1", "org/m2"):
            with reading(t, name) as source:
                source.rows(source.tensors["w"], [150])

    with traffic(**limit).installed() as t, pytest.raises(BudgetSpentError, match=spent):
        both(t)
    assert t.spent == spent
    assert len(hub.log) <= 3


def test_turns_at_one_host_are_limited(hub, traffic):
    lock, inside, most = threading.Lock(), [0], [0]

    def chance(*_):
        """Before any answer is sent: whoever is in here still waits for it."""
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        with lock:
            inside[0] -= 1

    hub.chance = chance
    with traffic(per_host=2).installed() as t:
        threads = [threading.Thread(target=lambda i=i: reading(t, f"org/m{i}").close()) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert t.exchanges == len(hub.log) == 10 * 3
    assert most[0] <= 2 * 2  # two hosts


@pytest.mark.parametrize(("action", "words"), [("foreign", "private address"), ("redirect_loop", "redirect")])
def test_redirects_lead_nowhere_they_should_not(hub, traffic, action, words):
    hub.faults = [Fault("/resolve/", action, times=99)]
    with traffic().installed() as t, pytest.raises(NetworkError, match=words):
        reading(t)


def test_a_public_hub_may_not_send_us_home(traffic):
    t = traffic(endpoint="https://hub.example")
    for url in ("https://10.0.0.1/x", "https://localhost/x", "https://[::1]/x", "http://hub.example/x"):
        from huggingface_hub.utils import httpx

        with pytest.raises(NetworkError, match=r"private|encryption"):
            t._check_place(httpx.URL(url), "there")


def test_private_places_are_known():
    assert all(map(is_private, ("10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "localhost")))
    assert not any(map(is_private, ("8.8.8.8", "hub.example")))
    assert is_loopback("127.0.0.2")
    assert not is_loopback("10.0.0.1")


def test_afterwards_the_hubs_client_is_as_before(hub, traffic):
    with traffic(budget_requests=1).installed() as t:
        HfApi(endpoint=hub.endpoint, token=False).model_info("org/m1")
    for _ in range(2):
        HfApi(endpoint=hub.endpoint, token=False).model_info("org/m1")
    assert (t.exchanges, len(hub.log)) == (1, 3)
