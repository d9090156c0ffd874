"""The random numbers that the library derives from a seed, written from their definitions.

Philox4x32-10: Salmon, Moraes, Dror and Shaw, SC 2011. Normal numbers: Box and Muller, 1958.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feature_files import Array

Words = NDArray[np.uint64]  # of 32 bits each

LOW = np.uint64(0xFFFFFFFF)
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Ten rounds on each row of counter [n, 4]."""
    c = counter.astype(np.uint64)
    for turn in range(10):
        k = [np.uint64((key[i] + turn * KEY_STEPS[i]) % 2**32) for i in (0, 1)]
        first, second = MULTIPLIERS[0] * c[:, 0], MULTIPLIERS[1] * c[:, 2]
        high = np.uint64(32)
        c = np.stack([(second >> high) ^ c[:, 1] ^ k[0], second & LOW,
                      (first >> high) ^ c[:, 3] ^ k[1], first & LOW], axis=1)
    return c


def words(seed: int, stream: int, item: int, count: int) -> Words:
    """The first `count` words of an item: block b of four is philox of (b, stream, item)."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    counter = np.zeros((len(blocks), 4), dtype=np.uint64)
    counter[:, 0] = blocks
    counter[:, 1], counter[:, 2], counter[:, 3] = stream, item % 2**32, item // 2**32
    return philox(counter, (seed % 2**32, seed // 2**32)).ravel()[:count]


def uniform(seed: int, stream: int, item: int) -> float:
    """In [0, 1): the first word of an item."""
    return float(words(seed, stream, item, 1)[0]) / 2.0**32


def uniforms(seed: int, stream: int, count: int) -> Array:
    """That of the items 0 .. count - 1."""
    counter = np.zeros((count, 4), dtype=np.uint64)
    counter[:, 1], counter[:, 2] = stream, np.arange(count)
    return philox(counter, (seed % 2**32, seed // 2**32))[:, 0].astype(np.float64) / 2.0**32


def normal(seed: int, stream: int, item: int, count: int) -> Array:
    """Each pair of words (a, b) gives sqrt(-2 log u) times cos t and sin t, u = (a + 1) / 2^32 in
    (0, 1], t = 2 pi b / 2^32."""
    pairs = words(seed, stream, item, count + count % 2).astype(np.float64).reshape(-1, 2) / 2.0**32
    length = np.sqrt(-2.0 * np.log(pairs[:, 0] + 2.0**-32))
    angle = 2.0 * np.pi * pairs[:, 1]
    return np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1).ravel()[:count]


def check_known_answers() -> None:
    """Random123's kat_vectors for philox4x32-10."""
    for counter, key, answer in (
            ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
            ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF),
             [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
            ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], (0xA4093822, 0x299F31D0),
             [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1])):
        assert philox(np.array([counter], dtype=np.uint64), key)[0].tolist() == answer


check_known_answers()
