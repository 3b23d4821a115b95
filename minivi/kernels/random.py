"""Random numbers from a counter: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, 2011).

A stream keeps no hidden state: its words are a bijection, picked by the key, of 0, 1, 2, ... So any piece of it follows
from its position alone, whichever thread asks:

    key (k0, k1, k2, k3)          Philox, ten rounds, of counter (b low, b high, k2, k3) with key (k0, k1)
    block b = counter + i   --->  four words of 32 bits
                                  |    |    |    |
    one word an element           4i  4i+1 4i+2 4i+3    words, Bernoulli draws, float32 uniforms and normals
    two words an element          2i       2i+1         float64 uniforms and normals

Philox's own key has 64 bits and its counter 128, of which no stream uses up the upper half: that is more key. Every
call starts at a block, so ``n`` elements take up ``ceil(words / 4)`` blocks.

Normals come in pairs, by Box and Muller's transform sqrt(-2 log u) (cos a, sin a). Small u make the tails, so a float32
u is rounded from 31 bits, not cut at 24: magnitudes reach 6.66 (8.57 in float64). Two bits of the angle's word pick the
quadrant and the rest an offset in [-pi/4, pi/4], where short polynomials do and no argument needs reducing.
"""

import math

import numpy as np
from numba import njit

from minivi.kernels.jit import chunk, launch, rows
from minivi.kernels.vector import scalar_log

__all__ = ["bernoulli", "normal", "philox_words", "uniform"]

f32, f64, i32, i64, u32, u64 = np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64

# Blocks made at a time: their words stay in the first-level cache until they are turned into numbers.
TILE = 256


@njit(inline="always")
def _fill(words, s, block, hi):
    """Put blocks ``block`` to ``hi``, a tile at most, of the stream s = (key, counter) into ``words``; how many?

    Words live in 64-bit variables, whose upper halves the products mask off: in 32-bit ones LLVM converts at every
    round, which takes three times as long.
    """
    low, blocks = u64(0xFFFFFFFF), min(TILE, hi - block)
    first = (u64(s[5]) << u64(32)) + u64(s[4]) + u64(block)
    for i in range(u64(blocks)):
        a, b, c, d = first + i, (first + i) >> u64(32), u64(s[2]), u64(s[3])
        k0, k1 = u64(s[0]), u64(s[1])
        for _ in range(10):
            x, y = u64(0xD2511F53) * (a & low), u64(0xCD9E8D57) * (c & low)
            a, b, c, d = (y >> u64(32)) ^ b ^ k0, y, (x >> u64(32)) ^ d ^ k1, x
            k0, k1 = k0 + u64(0x9E3779B9), k1 + u64(0xBB67AE85)
        j = u64(4) * i
        words[j], words[j + u64(1)], words[j + u64(2)], words[j + u64(3)] = u32(a), u32(b), u32(c), u32(d)
    return blocks


@chunk
def _words(p, s, lo, hi):
    for block in range(lo, hi, TILE):
        _fill(rows(p[0], 4 * block, 4 * hi), s, block, hi)


@chunk
def _uniform32(p, s, lo, hi):
    words = np.empty(4 * TILE, u32)
    for block in range(lo, hi, TILE):
        out = rows(p[0], 4 * block, 4 * (block + _fill(words, s, block, hi)))
        for i in range(len(out)):
            out[i] = f32(i32(words[i] >> u32(8))) * f32(2**-24)


@chunk
def _uniform64(p, s, lo, hi):
    words = np.empty(2 * TILE, u64)
    for block in range(lo, hi, TILE):
        out = rows(p[0], 2 * block, 2 * (block + _fill(words.view(u32), s, block, hi)))
        for i in range(len(out)):
            out[i] = f64(words[i] >> u64(11)) * 2.0**-53


@chunk
def _bernoulli(p, s, lo, hi):
    words, n = np.empty(4 * TILE, u32), i64(s[6])
    for block in range(lo, hi, TILE):
        end = min(n, 4 * (block + _fill(words, s, block, hi)))
        x, out = rows(p[0], 4 * block, end), rows(p[1], 4 * block, end)
        for i in range(len(out)):
            out[i] = f64(words[i]) < f64(x[i]) * 2.0**32


@njit(inline="always")
def _turn(r, cos, sin, quadrant):
    """The point at distance r and an angle of so many right angles and what ``cos`` and ``sin`` belong to."""
    x, y = (sin, cos) if quadrant & u32(1) else (cos, sin)
    return (-r if (quadrant + u32(1)) & u32(2) else r) * x, (-r if quadrant & u32(2) else r) * y


@chunk
def _normal32(p, s, lo, hi):
    words = np.empty(4 * TILE, u32)
    for block in range(lo, hi, TILE):
        out = rows(p[0], 4 * block, 4 * (block + _fill(words, s, block, hi)))
        for j in range(u64(0), u64(len(out)), u64(2)):
            v, w = words[j], words[j + u64(1)]
            u = f32(i32(v >> u32(1))) * f32(2**-31) + f32(2**-32)
            a = f32(i32(w << u32(2))) * f32(math.pi * 2**-33)
            z = a * a  # Cephes' polynomials
            cos = f32(4.1666645683e-2) + z * (f32(2.4433157118e-5) * z - f32(1.3887316255e-3))
            cos = f32(1) - z * (f32(0.5) - z * cos)
            sin = a + a * z * (f32(-1.6666654611e-1) + z * (f32(8.3321608736e-3) - z * f32(1.9515295891e-4)))
            out[j], out[j + u64(1)] = _turn(np.sqrt(f32(-2) * scalar_log(u)), cos, sin, w >> u32(30))


@chunk
def _normal64(p, s, lo, hi):
    words = np.empty(2 * TILE, u64)
    for block in range(lo, hi, TILE):
        out = rows(p[0], 2 * block, 2 * (block + _fill(words.view(u32), s, block, hi)))
        for j in range(0, len(out), 2):
            v, w = words[j], words[j + 1]
            u = f64((v >> u64(11)) + u64(1)) * 2.0**-53
            a = f64(i64(w << u64(2))) * (math.pi * 2.0**-65)
            out[j], out[j + 1] = _turn(math.sqrt(-2 * scalar_log(u)), math.cos(a), math.sin(a), u32(w >> u64(62)))


# Of each law and type: the kernel, words an element, and what an element is worth in those of a cheap kernel.
LAWS = {
    ("uniform", np.dtype(np.float32)): (_uniform32, 1, 1),
    ("uniform", np.dtype(np.float64)): (_uniform64, 2, 3),
    ("normal", np.dtype(np.float32)): (_normal32, 1, 3),
    ("normal", np.dtype(np.float64)): (_normal64, 2, 16),
}


def place(key, counter: int, n: int) -> tuple:
    """The scalars of a kernel that makes ``n`` elements of the stream ``key`` from block ``counter`` on."""
    return *key, counter & 0xFFFFFFFF, counter >> 32, n


def _launch(kernel, arrays, n, words, work, key, counter):
    """Run ``kernel`` for ``n`` elements of ``words`` words, each worth ``work`` elements of a cheap kernel."""
    launch(kernel, -(-n * words // 4), arrays, place(key, counter, n), n * work)


def _draw(kernel, words, work, dtype, n, key, counter):
    """``n`` elements from ``kernel``, which writes whole blocks."""
    out = np.empty(-(-n * words // 4) * 4 // words, dtype)
    _launch(kernel, (out,), n, words, work, key, counter)
    return out[:n]


def philox_words(n: int, key, counter: int) -> np.ndarray:
    """The ``n`` uint32 words of the stream ``key`` (four 32-bit integers) from block ``counter`` (64 bits) on."""
    return _draw(_words, 1, 1, np.uint32, n, key, counter)


def uniform(n: int, dtype, key, counter: int) -> np.ndarray:
    """``n`` uniform numbers in [0, 1): multiples of 2^-24 (float32) or 2^-53 (float64)."""
    return _draw(*LAWS["uniform", np.dtype(dtype)], dtype, n, key, counter)


def normal(n: int, dtype, key, counter: int) -> np.ndarray:
    """``n`` standard normal numbers, float32 or float64."""
    return _draw(*LAWS["normal", np.dtype(dtype)], dtype, n, key, counter)


def bernoulli(p: np.ndarray, key, counter: int) -> np.ndarray:
    """1 with probability ``p`` and 0 otherwise, in the shape and dtype (float32, float64) of ``p``.

    An element is 1 when its word is below 2^32 p, a probability of ceil(2^32 p) / 2^32: exact for 0 and 1.
    """
    out = np.empty(p.shape, p.dtype)
    _launch(_bernoulli, (p, out), p.size, 1, 2, key, counter)
    return out
