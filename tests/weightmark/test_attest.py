"""Signatures and time stamps: what holds, and every way in which it does not."""

import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from weightmark import attest


def pem(key, passphrase=None):
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def test_published_vector_of_ed25519():
    """RFC 8032, section 7.1, test 2."""
    secret = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    made = attest.signed(Ed25519PrivateKey.from_private_bytes(secret), b"\x72")
    assert made.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert made.value.hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")
    assert attest.is_signed(made, b"\x72")
    assert not attest.is_signed(made, b"\x73")
    assert not attest.is_signed(attest.Signature(made.public, made.value[:-1] + b"\x01"), b"\x72")
    assert not attest.is_signed(attest.Signature(b"short", made.value), b"\x72")


def test_keys_that_are_none():
    key = Ed25519PrivateKey.generate()
    assert attest.private_key(pem(key)).sign(b"x") == key.sign(b"x")
    assert attest.private_key(pem(key, b"word"), b"word").sign(b"x") == key.sign(b"x")
    for text, word, wrong in (
        (b"nonsense", None, "not a private key"),
        (pem(key, b"word"), None, "needs a passphrase"),
        (pem(key, b"word"), b"other", "another passphrase"),
        (pem(key), b"word", "passphrase"),
        (pem(generate_private_key(SECP256R1())), None, "another algorithm"),
    ):
        with pytest.raises(ValueError, match=wrong):
            attest.private_key(text, word)


def test_base64_is_strict():
    assert attest.as_bytes(attest.as_text(b"\x00\xff"), "x") == b"\x00\xff"
    for wrong in ("a", "AA==!", 5, None):
        with pytest.raises(ValueError, match="sig"):
            attest.as_bytes(wrong, "sig")


CONFIG = """
[ tsa ]
default_tsa = here
[ here ]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A time-stamp authority made by openssl: its root, and a function that answers questions."""
    if shutil.which("openssl") is None:
        pytest.fail("openssl is missing")
    folder = tmp_path_factory.mktemp("tsa")

    def run(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))
    (folder / "ext.cnf").write_text("extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n")
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=tsa")
    run("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-extfile", "ext.cnf", "-out", "tsa.pem")  # fmt: skip

    def answer(question):
        (folder / "q.tsq").write_bytes(question)
        run("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q.tsq", "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "a.tsr")  # fmt: skip
        return (folder / "a.tsr").read_bytes()

    return (folder / "root.pem").read_bytes(), answer


@pytest.mark.outside("openssl")
def test_stamps_of_a_real_authority(authority):
    root, answer = authority
    stamp = answer(attest.stamp_request(b"claim"))
    seen = attest.stamped_time(stamp, b"claim", root)
    assert abs((datetime.now(UTC) - seen).total_seconds()) < 60
    for response, message, trusted in (
        (stamp, b"another claim", root),
        (b"nonsense", b"claim", root),
        (stamp[:-5], b"claim", root),
        (stamp, b"claim", b"nonsense"),
    ):
        with pytest.raises(ValueError, match="does not hold"):
            attest.stamped_time(response, message, trusted)
    with pytest.raises(ValueError, match="none has more"):
        attest.stamped_time(bytes(1 << 17), b"claim", root)
