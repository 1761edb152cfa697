"""Shared set-up: a kernel cache named by the kernels' own digest, loopback-only sockets, quiet Hypothesis."""

import hashlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
KERNELS = sorted((ROOT / "stats").rglob("*.py"))
_DIGEST = hashlib.sha256(b"".join(p.read_bytes() for p in KERNELS)).hexdigest()[:16]
# The on-disk cache of numba does not notice an edit in a callee's file: a fresh folder per version of the code does.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / f"numba-{_DIGEST}"))
# Small products are all there is for BLAS: its threads only wait for each other, and for the other worker's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

settings.register_profile(
    "house", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("house")


LONGEST = (
    "test_gate",
    "test_disguises",
    "test_zoo_pairs",
    "test_samples",
    "test_trap_set",
    "test_anchored",
    "test_giant",
    "test_attacks",
)
"""Files that take longest, the longest first: begun last, one of them would leave the other worker idle."""


def pytest_collection_modifyitems(items):
    """Long files first; inside a file nothing moves."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch):
    """No test leaves the machine."""
    real = socket.socket.connect

    def connect(self, address):
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        if host not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to reach {host}")
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="session")
def zoo() -> Path:
    """Folder of the trained fixture models."""
    return ROOT / "fixtures" / "zoo"
