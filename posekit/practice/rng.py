"""Counter-based random numbers: every picture draws from a generator of its own."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the generator that belongs to (seed, keys) alone, whatever was drawn before."""
    text = "\x1f".join([str(seed), *(str(key) for key in keys)])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def clipped_normal(
    rng: np.random.Generator, mean: float, spread: float, low: float, high: float
) -> float:
    """Draw a normal number and hold it inside the limits, as a joint holds a limb."""
    return float(min(max(rng.normal(mean, spread), low), high))
