"""The seeded share of the rows of a bank."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STREAM = 0x400  # of the bank
WORD = 2**32


def philox4x32(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10: Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], WORD)
        high1, low1 = divmod(0xCD9E8D57 * c[2], WORD)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % WORD, (k[1] + 0xBB67AE85) % WORD]
    return c


assert philox4x32([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def row_sample(rows: int, share: float, seed: int) -> NDArray[np.int64]:
    """The ceil(share rows) rows with the smallest 63-bit random numbers, in ascending order."""
    def number(row: int) -> int:
        words = philox4x32([0, STREAM, row % WORD, row // WORD], [seed % WORD, seed // WORD])
        return (words[0] * WORD + words[1]) // 2

    # A share is meant as it is written: 0.07 of 100 are 7, though the product is 7 + 1e-15
    count = math.ceil(share * rows * (1.0 - 1e-12))
    return np.array(sorted(sorted(range(rows), key=lambda row: (number(row), row))[:count]))
