"""Twins of the random-number kernels: the same words, uniforms and Bernoulli draws, normals to a few units in the last
place. A block's words are one row of an array, and a pair of normals is one complex number."""

import numpy as np

__all__ = ["bernoulli", "normal", "philox_words", "uniform"]


def philox_words(n, key, counter):
    """The ``n`` uint32 words of the stream ``key`` (four 32-bit integers) from block ``counter`` (64 bits) on."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1, k2, k3 = np.array(key, np.uint64)
    block = np.arange(-(-n // 4), dtype=np.uint64) + np.uint64(counter)
    a, b, c, d = block & low, block >> half, np.full_like(block, k2), np.full_like(block, k3)
    for _ in range(10):
        x, y = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (y >> half) ^ b ^ k0, y & low, (x >> half) ^ d ^ k1, x & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([a, b, c, d], axis=1).astype(np.uint32).reshape(-1)[:n]


def uniform(n, dtype, key, counter):
    """``n`` uniform numbers in [0, 1): multiples of 2^-24 (float32) or 2^-53 (float64)."""
    if np.dtype(dtype) == np.float32:
        return (philox_words(n, key, counter) >> 8).astype(np.float32) * np.float32(2**-24)
    return (philox_words(2 * n, key, counter).view(np.uint64) >> 11) * 2.0**-53


def normal(n, dtype, key, counter):
    """``n`` standard normal numbers, float32 or float64."""
    if np.dtype(dtype) == np.float32:
        v, w = philox_words(n + n % 2, key, counter).reshape(-1, 2).T
        u = ((v >> 1).astype(np.float32) * np.float32(2**-31) + np.float32(2**-32)).astype(np.float64)
        offset, quadrant = (w << 2).view(np.int32).astype(np.float32) * 2.0**-33, w >> 30
    else:
        v, w = philox_words(2 * (n + n % 2), key, counter).view(np.uint64).reshape(-1, 2).T
        u = ((v >> 11) + 1) * 2.0**-53
        offset, quadrant = (w << 2).view(np.int64) * 2.0**-65, w >> 62
    z = np.sqrt(-2 * np.log(u)) * np.exp(1j * np.pi * offset) * np.array([1, 1j, -1, -1j])[quadrant]
    return z.view(np.float64).astype(dtype)[:n]


def bernoulli(p, key, counter):
    """1 with probability ``p`` and 0 otherwise, in the shape and dtype (float32, float64) of ``p``."""
    return (philox_words(p.size, key, counter).reshape(p.shape) < p * 2.0**32).astype(p.dtype)
