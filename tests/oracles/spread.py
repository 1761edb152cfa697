"""Naive twins of the keystreams and of `dss`, in loops; they share no code with the package."""

import hashlib
import hmac
import math

_SALT = hashlib.sha256(b"weightmark/v1").digest()


def secret(master, scheme, channel, role, purpose):
    """HKDF of RFC 5869, one block of output."""
    extracted = hmac.new(_SALT, master, hashlib.sha256).digest()
    info = f"weightmark/1|{scheme}|{channel}|{role}|{purpose}".encode()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def keystream(key, start, n):
    """Bytes start .. start + n - 1 of AES-256 in counter mode from zero."""
    schedule = _expanded(key)
    first, last = start // 16, -(-(start + n) // 16)
    made = b"".join(_encrypted(i.to_bytes(16, "big"), schedule) for i in range(first, last))
    return made[start - 16 * first :][:n]


def _sbox():
    """FIPS 197, section 5.1.1: the inverse in GF(256), then an affine map."""
    table, p, q = [0] * 256, 1, 1
    while True:
        p = (p ^ (p << 1) ^ (0x11B if p & 0x80 else 0)) & 0xFF  # times 3
        for shift in (1, 2, 4):
            q = (q ^ (q << shift)) & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        turned = [((q << k) | (q >> (8 - k))) & 0xFF for k in range(5)]
        table[p] = turned[0] ^ turned[1] ^ turned[2] ^ turned[3] ^ turned[4] ^ 0x63
        if p == 1:
            table[0] = 0x63
            return table


_S = _sbox()


def _doubled(x):
    return ((x << 1) ^ (0x1B if x & 0x80 else 0)) & 0xFF


def _expanded(key):
    words = [list(key[4 * i : 4 * i + 4]) for i in range(8)]
    constant = 1
    for i in range(8, 60):
        word = list(words[-1])
        if i % 8 == 0:
            word = [_S[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _doubled(constant)
        elif i % 8 == 4:
            word = [_S[b] for b in word]
        words.append([a ^ b for a, b in zip(words[-8], word, strict=True)])
    return [[b for word in words[4 * r : 4 * r + 4] for b in word] for r in range(15)]


def _encrypted(block, schedule):
    state = [a ^ b for a, b in zip(block, schedule[0], strict=True)]
    for turn in range(1, 15):
        state = [_S[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if turn < 14:
            state = [b for c in range(4) for b in _mixed(state[4 * c : 4 * c + 4])]
        state = [a ^ b for a, b in zip(state, schedule[turn], strict=True)]
    return bytes(state)


def _mixed(column):
    every = column[0] ^ column[1] ^ column[2] ^ column[3]
    return [column[i] ^ every ^ _doubled(column[i] ^ column[(i + 1) % 4]) for i in range(4)]


def statistic(rows, signs, symbols, code, clip=4.0, block=64):
    """Sum of code times sign times clipped value, over the root sum of squares; values in root mean squares of rows."""
    top, squares = [], []
    for r, row in enumerate(rows):
        rms = math.sqrt(math.fsum(x * x for x in row) / len(row))
        for i, x in enumerate(row):
            v = max(-clip, min(clip, x / rms)) if rms else 0.0
            top.append(code[symbols[r][i // block]] * signs[r][i] * v)
            squares.append(v * v)
    return math.fsum(top) / math.sqrt(math.fsum(squares))


def crc(data):
    """CRC-16/CCITT-FALSE, bit by bit."""
    value = 0xFFFF
    for byte in data:
        for k in range(7, -1, -1):
            top = (value >> 15) ^ ((byte >> k) & 1)
            value = ((value << 1) & 0xFFFF) ^ (0x1021 if top else 0)
    return value


def parity_checks(shifts, lifting=128):
    """The check matrix as sets of columns, one a row."""
    return [{j * lifting + (t + s) % lifting for j, s in enumerate(row)} for row in shifts for t in range(lifting)]


def girth(checks):
    """Length of the shortest cycle of the graph of checks and variables."""
    of_variable = {}
    for c, variables in enumerate(checks):
        for v in variables:
            of_variable.setdefault(v, []).append(c)
    best = math.inf
    for start in range(len(checks)):
        depth, above, queue = {("c", start): 0}, {("c", start): None}, [("c", start)]
        for node in queue:
            if 2 * depth[node] >= best:
                break
            others = [("v", v) for v in checks[node[1]]] if node[0] == "c" else [("c", c) for c in of_variable[node[1]]]
            for other in others:
                if other not in depth:
                    depth[other], above[other] = depth[node] + 1, node
                    queue.append(other)
                elif above[node] != other:
                    best = min(best, depth[node] + depth[other] + 1)
    return best


def neighbours(target, bits, lowest):
    """The two numbers of a float format around a value, and how far it lies between them."""
    if target == 0.0:
        return 0.0, 0.0, 0.0
    exponent = max(math.floor(math.log2(abs(target))), lowest)
    step = 2.0 ** (exponent - bits + 1)
    low = math.floor(abs(target) / step) * step
    return low, low + step, (abs(target) - low) / step
