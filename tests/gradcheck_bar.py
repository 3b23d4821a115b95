"""The bar for the gradient checker: right and wrong gradients of functions of every kind, by minivi and PyTorch.

    python tests/gradcheck_bar.py              prints what each checker accepts and rejects
    python tests/gradcheck_bar.py --write      and writes docs/gradcheck.md

A case is a function of one array, written once for NumPy and PyTorch, and a point. Its right gradient is the imaginary
part of f(x + i 1e-200) for each coordinate, exact to rounding, or a formula. A wrong one has one coordinate a
thousandth too large or too small; where it is 0, or moves f by no more than f's rounding when x moves by its own size,
off by a thousandth of the largest, or of 1 if all are so. Up to six coordinates of a function are made wrong in turn,
one of those with more than a thousand; random ones, of fixed seeds.

minivi's counts are in-sample: its checker was tuned on these functions, and a few of them were changed after a result
was seen ("x^2 of 5000 over scales" and "float32 mean" were harder). Its first version, tried on 160 functions that it
had not seen, refused 20 right gradients and missed wrong ones of 8.
"""

import argparse
import datetime
import platform
from functools import partial
from pathlib import Path

import numpy as np

CASES = {}


def case(name, x, gradient=None):
    """Decorator: enter ``f(m, x)`` at the point ``x``."""

    def enter(f):
        assert name not in CASES, name
        CASES[name] = f, np.asarray(x, float), gradient
        return f

    return enter


def right_gradient(f, x, gradient):
    """The gradient at ``x``, to rounding."""
    if gradient is not None:
        return np.asarray(gradient(x), float) + np.zeros_like(x)
    out = np.zeros(x.shape)
    for i in range(x.size):
        moved = x.astype(complex)
        moved.flat[i] += 1e-200j
        out.flat[i] = np.imag(f(np, moved)) / 1e-200
    return out


def wrong_gradients(name):
    """Functions' gradients that are off by a thousandth in one coordinate."""
    f, x, gradient = CASES[name]
    right = right_gradient(f, x, gradient)
    large = x.size > 1000
    lost = (np.abs(right * x) <= 16.0 * np.finfo(float).eps * np.abs(f(np, x))) & (x != 0.0) | (right == 0.0)
    drawn = np.random.default_rng([len(name), *name.encode()]).permutation(x.size)[: 1 if large else 6]
    for i in drawn:
        for error in (1e-3,) if large else (1e-3, -1e-3):
            wrong = right.copy()
            if lost.flat[i]:
                wrong.flat[i] += error * (1.0 if lost.all() else np.abs(right).max())
            else:
                wrong.flat[i] *= 1.0 + error
            yield wrong


RNG = np.random.default_rng(0)
FIVE = RNG.standard_normal(5)

# ---------------------------------------------------------------------------------- scales of x and of f
for s in (1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12):
    case(f"squares, x about {s:g}", s * FIVE)(lambda m, x: (x * x).sum())
    case(f"cubes, x about {s:g}", s * FIVE)(lambda m, x: (x * x * x).sum())
    case(f"{s:g} (sin x + exp(x / 2))", FIVE)(lambda m, x, s=s: s * (m.sin(x) + m.exp(x / 2)).sum())
    case(f"tanh(x / {s:g})", s * FIVE)(lambda m, x, s=s: m.tanh(x / s).sum())
for s in (1e-8, 1e-4, 1e-2, 1.0, 1e4, 1e12):
    case(f"log x at {s:g}", [s, 2 * s])(lambda m, x: m.log(x).sum())
    case(f"sqrt x at {s:g}", [s, 3 * s])(lambda m, x: m.sqrt(x).sum())
for s in (1e-6, 1e-3, 1.0):
    case(f"1 / x at {s:g}", [s, -2 * s])(lambda m, x: (1.0 / x).sum())
    case(f"|x|^1.5 at {s:g}", [s, -s], lambda x: 1.5 * np.sqrt(np.abs(x)) * np.sign(x))(
        lambda m, x: (m.abs(x) ** 1.5).sum()
    )
case("mixed scales: log x", [1e-6, 1.0, 1e6])(lambda m, x: m.log(x).sum())
case("mixed scales: squares", [1e-6, 1.0, 1e6])(lambda m, x: (x * x).sum())

# ---------------------------------------------------------------------------------- a coordinate small beside f
case("1e8 x0 + x1", [1.0, 1.0])(lambda m, x: 1e8 * x[0] + x[1])
case("1e10 x0^2 + x1", [1.0, 1.0])(lambda m, x: 1e10 * x[0] ** 2 + x[1])
case("5e7 + sin w", [0.3, 1.0])(lambda m, x: 5e7 + m.sin(x).sum())
case("1e6 x0 + x1 / 1000", [0.5, -0.5])(lambda m, x: 1e6 * x[0] + 1e-3 * x[1])
case("1e8 + x^2", [0.7])(lambda m, x: 1e8 + (x * x).sum())
case("1e6 exp x0 + tanh x1", [1.0, 0.4])(lambda m, x: 1e6 * m.exp(x[0]) + m.tanh(x[1]))
case("1e4 + x / 1000", [2.0])(lambda m, x: 1e4 + 1e-3 * x.sum())
case("1 + 1e-14 x", [1.0, 2.0])(lambda m, x: 1.0 + 1e-14 * x.sum())
case("ill-conditioned quadratic", np.ones(7))(lambda m, x: sum(10.0 ** (i - 3) * x[i] ** 2 for i in range(7)))

# ---------------------------------------------------------------------------------- derivatives that vanish
case("x^3 at 0", [0.0])(lambda m, x: (x**3).sum())
case("x^2 at 0", [0.0, 0.0])(lambda m, x: (x**2).sum())
case("x^4 at 0", [0.0])(lambda m, x: (x**4).sum())
case("sin x - x at 0", [0.0])(lambda m, x: (m.sin(x) - x).sum())
case("cos x at 0", [0.0])(lambda m, x: m.cos(x).sum())
case("x0 x1 x2 at 0", [0.0, 0.0, 0.0])(lambda m, x: x[0] * x[1] * x[2])
case("exp(-x^2) at 0", [0.0, 0.5])(lambda m, x: m.exp(-x * x).sum())
case("(x - 1)^2 at its minimum", [1.0, 1.0])(lambda m, x: ((x - 1.0) ** 2).sum())
case("x^2 + y at x = 0", [0.0, 1.0])(lambda m, x: x[0] ** 2 + x[1])
case("Rosenbrock at its minimum", [1.0, 1.0])(lambda m, x: (1.0 - x[0]) ** 2 + 100.0 * (x[1] - x[0] ** 2) ** 2)
case("tanh at 20", [20.0])(lambda m, x: m.tanh(x).sum())
case("tanh at -20", [-20.0])(lambda m, x: m.tanh(x).sum())
case("sigmoid at 40", [40.0])(lambda m, x: (1.0 / (1.0 + m.exp(-x))).sum())
case("exp(-x^2) at 6", [6.0])(lambda m, x: m.exp(-x * x).sum())
case("sigmoid at -30", [-30.0])(lambda m, x: (1.0 / (1.0 + m.exp(-x))).sum())
case("a bias before a softmax", [0.3, 1.0, -0.5, 0.2], lambda x: _bias_gradient(x))(
    lambda m, x: m.log(m.exp(x[1:] + x[0]) / m.exp(x[1:] + x[0]).sum())[1] * 1.0
)
case("an entry that is not used", [1.0, 2.0, 3.0])(lambda m, x: x[0] * x[2])


def _bias_gradient(x):
    p = np.exp(x[1:]) / np.exp(x[1:]).sum()
    return np.concatenate([[0.0], (np.arange(3) == 1) - p])


# ---------------------------------------------------------------------------------- arguments shifted, cancellation
for c in (10.0, 2e3, 1e6):
    case(f"tanh(x - {c:g})", [c + 0.3, c - 1.0])(lambda m, x, c=c: m.tanh(x - c).sum())
case("(1 - cos x) / x^2 at 0.01", [0.01])(
    lambda m, x: ((1.0 - m.cos(x)) / x**2).sum(),
)
case("(1 - cos x) / x^2 at 0.1", [0.1])(lambda m, x: ((1.0 - m.cos(x)) / x**2).sum())
case("(exp x - 1) / x at 0.001", [0.001])(lambda m, x: ((m.exp(x) - 1.0) / x).sum())
case("x - sin x at 0.1", [0.1])(lambda m, x: (x - m.sin(x)).sum())
case("sqrt(1 + x) - 1 at 1e-5", [1e-5])(lambda m, x: (m.sqrt(1.0 + x) - 1.0).sum())
case("log(1 + exp x) at -10", [-10.0])(lambda m, x: m.log(1.0 + m.exp(x)).sum())
case("(x + 1e6)^2 - 1e12", [0.5])(lambda m, x: ((x + 1e6) ** 2 - 1e12).sum())
case("variance by squares", 100.0 + FIVE)(lambda m, x: (x * x).mean() - x.mean() ** 2)
case("x^9 in powers", [0.99])(
    lambda m, x: (x**9 - 9 * x**8 + 36 * x**7 - 84 * x**6 + 126 * x**5 - 126 * x**4 + 84 * x**3).sum()
)

# ---------------------------------------------------------------------------------- kinks nearby
case("|x| away from 0", [1.0, -2.0], np.sign)(lambda m, x: m.abs(x).sum())
case("|x| at 1e-9", [1e-9, -1e-9], np.sign)(lambda m, x: m.abs(x).sum())
case("relu at 1e-6", [1e-6, -1e-6, 0.5], lambda x: 1.0 * (x > 0))(lambda m, x: (x * (x > 0)).sum())
case("sqrt(x^2)", [0.3, -1.0], np.sign)(lambda m, x: m.sqrt(x * x).sum())
case("larger of two, 1e-3 apart", [1.0, 1.001], lambda x: np.array([0.0, 1.0]))(lambda m, x: x.max())
case("hinge", [0.2, 1.7, -1.0], lambda x: -1.0 * (x < 1.0))(lambda m, x: ((1.0 - x) * (x < 1.0)).sum())
case("Huber", [0.2, 1.7, -3.0], lambda x: np.clip(x, -1.0, 1.0))(
    lambda m, x: m.where(m.abs(x) < 1.0, 0.5 * x * x, m.abs(x) - 0.5).sum()
)
case("|x| + x^2 beside a kink", [1e-4, -1e-4], lambda x: np.sign(x) + 2 * x)(lambda m, x: (m.abs(x) + x * x).sum())
case("|sin 5 x|", [0.3, 1.0], lambda x: 5 * np.cos(5 * x) * np.sign(np.sin(5 * x)))(
    lambda m, x: m.abs(m.sin(5 * x)).sum()
)
case("elu at -1e-5", [-1e-5, 1e-5], lambda x: np.where(x > 0, 1.0, np.exp(x)))(
    lambda m, x: m.where(x > 0, x, m.exp(x) - 1.0).sum()
)

# ---------------------------------------------------------------------------------- domains that end
case("x log x at 1e-6", [1e-6])(lambda m, x: (x * m.log(x)).sum())
case("log(1 - x) at 1 - 1e-6", [1.0 - 1e-6])(lambda m, x: m.log(1.0 - x).sum())
case("arcsin at 0.9999", [0.9999], lambda x: 1.0 / np.sqrt(1.0 - x * x))(lambda m, x: m.arcsin(x).sum())
case("arctanh at 0.99999", [0.99999, -0.5])(lambda m, x: m.arctanh(x).sum())
case("sqrt(1 - x^2) at 0.99999", [0.99999])(lambda m, x: m.sqrt(1.0 - x * x).sum())
case("x^x at 0.1", [0.1, 1.0])(lambda m, x: m.exp(x * m.log(x)).sum())
case("entropy at a corner", [1e-7, 0.3, 0.7 - 1e-7])(lambda m, x: -(x * m.log(x)).sum())
case("log log x at 1.001", [1.001])(lambda m, x: m.log(m.log(x)).sum())
case("sqrt(x)^3 at its edge 0", [0.0, 1.0], lambda x: 1.5 * np.sqrt(x))(lambda m, x: (m.sqrt(x) * x).sum())
case("log of a difference of 1e-5", [1.0, 1.0 - 1e-5])(lambda m, x: m.log(x[0] - x[1]))

# ---------------------------------------------------------------------------------- fast and slow
case("sin 1000 x", [0.3, 1.0])(lambda m, x: m.sin(1000.0 * x).sum())
case("sin x at 100", [100.0, -70.0])(lambda m, x: m.sin(x).sum())
case("exp(20 x)", [1.0, -1.0])(lambda m, x: m.exp(20.0 * x).sum())
case("1 / (1 + 1e6 x^2) at 1e-3", [1e-3])(lambda m, x: (1.0 / (1.0 + 1e6 * x * x)).sum())
case("tanh(1e8 x) at 1e-9", [1e-9])(lambda m, x: m.tanh(1e8 * x).sum())
case("x + sin(1e4 x) / 1e4", [0.5])(lambda m, x: (x + m.sin(1e4 * x) / 1e4).sum())

# ---------------------------------------------------------------------------------- expressions of models
W = RNG.standard_normal((4, 3))
DATA = RNG.standard_normal((6, 4))


def _like(m, a, x):
    """A constant, as the namespace's array."""
    return m.as_tensor(a, dtype=x.dtype) if m.__name__ == "torch" else a


def _mlp(m, x):
    w1, w2 = x[:20].reshape(4, 5), x[20:].reshape(5, 2)
    return m.log(1.0 + m.exp(m.tanh(_like(m, DATA, x) @ w1) @ w2)).sum()


def _cross_entropy(m, x):
    logits = _like(m, DATA, x) @ x.reshape(4, 3)
    return m.log(m.exp(logits).sum(1)).sum() - logits[:, 1].sum()


def _gaussian(m, x):
    mu, log_sigma = x[:3], x[3:]
    z = (_like(m, DATA[:, :3], x) - mu) * m.exp(-log_sigma)
    return (-0.5 * z * z - log_sigma - 0.5 * np.log(2 * np.pi)).sum()


def _elbo(m, x):
    mu, log_sigma, w = x[:2], x[2:4], x[4:12].reshape(2, 4)
    z = mu + m.exp(log_sigma) * _like(m, FIVE[:2], x)
    logits = z @ w
    pixels = _like(m, np.array([1.0, 0.0, 1.0, 1.0]), x)
    kl = 0.5 * (mu * mu + m.exp(2 * log_sigma) - 1.0) - log_sigma
    return (pixels * logits - m.log(1.0 + m.exp(logits))).sum() - kl.sum()


def _iterate(m, x, times):
    for _ in range(times):
        x = m.sin(x) + 0.1 * x
    return x.sum()


def _fraction(m, x):
    out = x[4]
    for i in (3, 2, 1, 0):
        out = x[i] + 1.0 / out
    return out


case("network of two layers", RNG.standard_normal(30))(_mlp)
case("cross-entropy", RNG.standard_normal(12))(_cross_entropy)
case("Gaussian, sigma about 1", 0.3 * RNG.standard_normal(6))(_gaussian)
case("Gaussian, sigma 1e-3", [0.0, 0.1, 0.2, -7.0, -7.0, -7.0])(_gaussian)
case("bound of a small VAE", RNG.standard_normal(12))(_elbo)
case("log-sum-exp", 3.0 * RNG.standard_normal(8))(lambda m, x: m.log(m.exp(x).sum()))
case("norm", RNG.standard_normal(6))(lambda m, x: m.sqrt((x * x).sum()))
case("cosine", RNG.standard_normal(6))(lambda m, x: (x * x[0]).sum() / m.sqrt((x * x).sum()))
case("Rosenbrock", [-1.2, 1.0])(lambda m, x: (1.0 - x[0]) ** 2 + 100.0 * (x[1] - x[0] ** 2) ** 2)
case("log of a determinant", [2.0, 0.5, 0.3, 1.0])(lambda m, x: m.log(x[0] * x[3] - x[1] * x[2]))
case("sin of sin, 20 times", [0.5, 1.5])(lambda m, x: _iterate(m, x, 20))
case("continued fraction", [1.0, 2.0, 0.5, 3.0, 1.5])(_fraction)
case("product of 12", 1.0 + 0.1 * RNG.standard_normal(12))(lambda m, x: m.exp(m.log(x).sum()))
case("exp(sin(x log(1 + x^2)))", FIVE)(lambda m, x: m.exp(m.sin(x * m.log(1.0 + x * x))).sum())
case("Student's t", 5.0 * FIVE)(lambda m, x: -3.0 * m.log(1.0 + x * x / 5.0).sum())
case("logistic map, 5 times", [0.3])(lambda m, x: _logistic(x, 5))
case("mixture of Gaussians", [0.5, -2.0])(lambda m, x: m.log(m.exp(-((x - 1) ** 2)) + m.exp(-((x + 1) ** 2))).sum())
case("cubic regression", RNG.standard_normal(4))(
    lambda m, x: (x[0] + x[1] * 0.3 + x[2] * 0.09 + x[3] * 0.027 - 1.0) ** 2
)


def _logistic(x, times):
    for _ in range(times):
        x = 3.7 * x * (1.0 - x)
    return x.sum()


# ---------------------------------------------------------------------------------- long reductions, float32 inside
for n in (10**5, 10**7):
    point = np.random.default_rng(n).standard_normal(n)
    case(f"squares, {n:g} of them", point, lambda x: 2 * x)(lambda m, x: (x * x).sum())
case("mean of squares, 1e6 of them", np.linspace(-1, 1, 10**6), lambda x: 2 * x / x.size)(lambda m, x: (x * x).mean())


def _single(m, x):
    return x.float() if m.__name__ == "torch" else x.astype(np.float32)


case("float32 inside: squares", FIVE, lambda x: 2 * x)(lambda m, x: (_single(m, x) ** 2).sum())
case("float32 inside: exp", FIVE, np.exp)(lambda m, x: m.exp(_single(m, x)).sum())
case("float32 inside: tanh", FIVE, lambda x: 1 - np.tanh(x) ** 2)(lambda m, x: m.tanh(_single(m, x)).sum())


# ================================================================ a second set, by another hand
SECOND = np.random.default_rng(77)
# scales
for s in (1e-9, 1e-4, 30.0, 1e5, 1e9):
    case(f"x^2 y + y^3, scale {s:g}", s * np.array([1.3, -0.7]))(lambda m, x: x[0] ** 2 * x[1] + x[1] ** 3)
    case(f"{s:g} cos exp", [0.3, -1.2, 0.8])(lambda m, x, s=s: s * m.cos(m.exp(x)).sum())
    case(f"log(1+x/{s:g})", s * np.array([0.2, 3.0, 10.0]))(lambda m, x, s=s: m.log(1 + x / s).sum())
    case(f"x exp(-x/{s:g})", s * np.array([0.2, 3.0, 10.0]))(lambda m, x, s=s: (x * m.exp(-x / s)).sum())
case("mixed 1e-9..1e9 tanh", [1e-9, 2e-3, 3.0, 1e5, 1e9])(
    lambda m, x: sum(m.tanh(x[i] / c) for i, c in enumerate((1e-9, 1e-3, 1, 1e5, 1e9)))
)
case("mixed product", [1e-6, 1e6, 2.0])(lambda m, x: x[0] * x[1] * x[2])
case("quotient 1e9/1e-3", [1e9, 1e-3])(lambda m, x: x[0] / x[1])
case("linear, coefs 1..1e6", SECOND.standard_normal(7))(lambda m, x: sum(10.0**i * x[i] for i in range(7)))
case("linear coefs 1e-12..1", SECOND.standard_normal(5))(lambda m, x: sum(10.0 ** (-3 * i) * x[i] for i in range(5)))
case("sin x + 1e-6 sin y", [1.0, 1.0])(lambda m, x: m.sin(x[0]) + 1e-6 * m.sin(x[1]))
case("exp x + 1e-9 y", [3.0, 1.0])(lambda m, x: m.exp(x[0]) + 1e-9 * x[1])
case("1e12 + 1e3 x", [1.0, 5.0])(lambda m, x: 1e12 + 1e3 * x.sum())
case("1e6+ sin(10x)", [1.0, 5.0])(lambda m, x: 1e6 + m.sin(10 * x).sum())
case("1e3 + sin(1000x)", [1.0, 5.0])(lambda m, x: 1e3 + m.sin(1000 * x).sum())
case("x at 0 with 1e6", [0.0, 1.0])(lambda m, x: m.sin(x[0]) + 1e6 * x[1])
case("tiny x: sin(1e10 x) at 0", [0.0])(lambda m, x: m.sin(1e10 * x).sum())
case("huge feature: sin(1e-10 x) at 0", [0.0])(lambda m, x: m.sin(1e-10 * x).sum())
case("exp(1e-8 x)", [1.0])(lambda m, x: m.exp(1e-8 * x).sum())
case("exp(300x)", [1.0])(lambda m, x: m.exp(300 * x).sum())
# cancellation
case("naive log1p", [1e-6])(lambda m, x: m.log(1 + x).sum() / x.sum())
case("naive expm1^2", [1e-4])(lambda m, x: ((m.exp(x) - 1) ** 2).sum())
case("root of quadratic", [1.0, 200.0, 1.0])(lambda m, x: (-x[1] + m.sqrt(x[1] ** 2 - 4 * x[0] * x[2])) / (2 * x[0]))
case("lse at 700", [700.0, 701.0, 695.0])(lambda m, x: m.log(m.exp(x - 700.0).sum()) + 700.0)
case("variance offset 1e4", 1e4 + SECOND.standard_normal(6))(lambda m, x: ((x - x.mean()) ** 2).mean())
case("variance naive 1e3", 1e3 + SECOND.standard_normal(6))(lambda m, x: (x * x).mean() - x.mean() ** 2)
case("difference of exps", [20.0, 20.001])(lambda m, x: m.exp(x[1]) - m.exp(x[0]))
case("det near singular", [1.0, 1.0, 1.0, 1.0001])(lambda m, x: x[0] * x[3] - x[1] * x[2])
case("hypot 3e5", [3e5, 4.0])(lambda m, x: m.sqrt(x[0] ** 2 + x[1] ** 2) - x[0])
case("sin(x+1e5)", [0.3])(lambda m, x: m.sin(x + 1e5).sum())
case("sin(x+1e8)", [0.3])(lambda m, x: m.sin(x + 1e8).sum())
case("cos x -1 at 1e-3", [1e-3])(lambda m, x: (m.cos(x) - 1).sum())
case("1-tanh^2 at 8", [8.0])(lambda m, x: (1 - m.tanh(x) ** 2).sum())
case("sinc naive 1e-2", [1e-2])(lambda m, x: (m.sin(x) / x).sum())
case("time stamps", [1.7e9, 1.7e9 + 5])(lambda m, x: m.tanh((x[1] - x[0]) / 10))
case("x(1-x) difference", [0.5 + 1e-6])(lambda m, x: (x * (1 - x)).sum())
# kinks
for d in (1e-12, 1e-7, 1e-5, 1e-3):
    case(f"relu(x-1) at 1+{d:g}", [1 + d, 1 - d], lambda x: 1.0 * (x > 1))(lambda m, x: ((x - 1) * (x > 1)).sum())
case("leaky relu at 1e-4", [1e-4, -1e-4], lambda x: np.where(x > 0, 1, 0.01))(
    lambda m, x: m.where(x > 0, x, 0.01 * x).sum()
)
SECOND.standard_normal((5, 40))
WD = SECOND.standard_normal((30, 5))
SECOND.standard_normal(40)


def relunet(m, x):
    return (m.where((a := _like(m, WD, x) @ x.reshape(5, 8)) > 0, a, 0 * a)).sum()


case("relu layer", SECOND.standard_normal(40), lambda x: (WD.T @ (1.0 * (WD @ x.reshape(5, 8) > 0))).ravel())(relunet)
case("max of 5", SECOND.standard_normal(5), lambda x: 1.0 * (x == x.max()))(lambda m, x: x.max())
case("abs product", [0.5, -0.3], lambda x: np.abs(x)[::-1] * np.sign(x))(lambda m, x: m.abs(x[0] * x[1]))
case("soft threshold", [1.5, 0.2, -3.0], lambda x: 1.0 * (np.abs(x) > 1))(
    lambda m, x: (m.where(m.abs(x) > 1, m.sign(x) * (m.abs(x) - 1), 0 * x)).sum()
)
case("x|x| at 0", [0.0, 1.0], lambda x: 2 * np.abs(x))(lambda m, x: (x * m.abs(x)).sum())
case("x|x| at 1e-3", [1e-3, -1.0], lambda x: 2 * np.abs(x))(lambda m, x: (x * m.abs(x)).sum())
case("sawtooth", [0.3, 1.9], lambda x: np.ones_like(x))(lambda m, x: (x - m.floor(x)).sum())
case("sawtooth 100", [0.303, 1.907], lambda x: np.ones_like(x) * 100)(
    lambda m, x: (100 * x - m.floor(100 * x)).sum() + 0.0
)
case("clip sq", [0.5, 3.0, -2.0], lambda x: np.where(np.abs(x) < 1, 2 * x, 0))(
    lambda m, x: (m.clip(x, -1, 1) ** 2).sum()
)
case("l1 + quad", SECOND.standard_normal(8), lambda x: np.sign(x) + 2 * x)(lambda m, x: m.abs(x).sum() + (x * x).sum())
case("relu^2 at 0", [0.0, 2.0], lambda x: 2 * x * (x > 0))(lambda m, x: (x * x * (x > 0)).sum())
case("huber at its joint", [1.0, -1.0], lambda x: np.clip(x, -1, 1))(
    lambda m, x: m.where(m.abs(x) < 1, 0.5 * x * x, m.abs(x) - 0.5).sum()
)
case("softplus sharp", [1e-3, -1e-3])(lambda m, x: (m.log(1 + m.exp(1e4 * x)) / 1e4).sum())
# fast
case("sin(1e6x)", [1.0])(lambda m, x: m.sin(1e6 * x).sum())
case("sin x^2 at 50", [50.0])(lambda m, x: m.sin(x * x).sum())
case("narrow gaussian", [1.01])(lambda m, x: m.exp(-1e4 * (x - 1) ** 2).sum())
case("narrower gaussian", [1.0 + 1e-5])(lambda m, x: m.exp(-1e10 * (x - 1) ** 2).sum())
case("lorentz", [2.0 + 1e-4])(lambda m, x: (1 / (1 + 1e8 * (x - 2) ** 2)).sum())
case("ripple 1e-6", [0.4])(lambda m, x: (m.exp(x) + 1e-6 * m.sin(1e5 * x)).sum())
case("beat", [0.4])(lambda m, x: (m.sin(50 * x) * m.cos(53 * x)).sum())
case("sin(1/x)", [0.02])(lambda m, x: m.sin(1 / x).sum())
case("cubic with slope", [0.0])(lambda m, x: (x + 1e6 * x**3).sum())
case("step-like", [0.01, -0.2])(lambda m, x: m.tanh(1e3 * x).sum())
case("sin 2pi k at integer grid", [1.0])(lambda m, x: m.sin(2 * np.pi * 4 * x).sum())
case("periodic on powers of 4", [1.0])(lambda m, x: (m.sin(2 * np.pi * 4.0**6 * x)).sum())
case("periodic on powers of 2 shifted", [1.0])(lambda m, x: (m.sin(2 * np.pi * 2.0**10 * x + 0.3)).sum())
# rounding inside f
case("float32 mean", SECOND.standard_normal(50)[:20], lambda x: 2 * x / 20)(lambda m, x: (_single(m, x) ** 2).mean())
case("float32 softmax ce", SECOND.standard_normal(4), lambda x: np.exp(x) / np.exp(x).sum() - np.array([0, 1, 0, 0]))(
    lambda m, x: m.log(m.exp(_single(m, x)).sum()) - _single(m, x)[1]
)
case("float32 tanh net", [0.4, -0.2], lambda x: (1 - np.tanh(x) ** 2) * np.cos(np.tanh(x)))(
    lambda m, x: m.sin(m.tanh(_single(m, x))).sum()
)
case("rounded to 1e-10", [0.4, 1.0], np.cos)(lambda m, x: m.round(m.sin(x) * 1e10).sum() / 1e10)


def newton(m, x):
    y = 1.0 + 0 * x
    for _ in range(30):
        y = y - (y**3 - x) / (3 * y * y)
    return y.sum()


case("cube root by Newton", [2.0, 50.0], lambda x: x ** (-2 / 3) / 3)(newton)


def newton_tol(m, x):
    y = 1.0
    v = float(x[0])
    while abs(y**3 - v) > 1e-6:
        y = y - (y**3 - v) / (3 * y * y)
    return x.sum() * 0 + y


case("Newton to a tolerance", [2.0], lambda x: x ** (-2 / 3) / 3)(newton_tol)
# domains
for s in (1e-300, 1e-100, 1e-30, 1e-12, 1e30, 1e200):
    case(f"log at {s:g}", [s], lambda x: 1 / x)(lambda m, x: m.log(x).sum())
case("sqrt 1e-200", [1e-200], lambda x: 0.5 / np.sqrt(x))(lambda m, x: m.sqrt(x).sum())
case("x log x 1e-12", [1e-12])(lambda m, x: (x * m.log(x)).sum())
case("log(1-x^2)", [1 - 1e-9])(lambda m, x: m.log(1 - x * x).sum())
case("arccos", [0.999999], lambda x: -1 / np.sqrt(1 - x * x))(lambda m, x: m.arccos(x).sum())
case("arcsin edge", [1 - 1e-12], lambda x: 1 / np.sqrt((1 - x) * (1 + x)))(lambda m, x: m.arcsin(x).sum())
case("1/(1-x)", [1 - 1e-7])(lambda m, x: (1 / (1 - x)).sum())
case("log(-log x)", [0.9999])(lambda m, x: m.log(-m.log(x)).sum())
case("x^1.5 at 0", [0.0], lambda x: 1.5 * np.sqrt(x))(lambda m, x: (x**1.5).sum())
case("x^2.5 at 0 and 2", [0.0, 2.0], lambda x: 2.5 * x**1.5)(lambda m, x: (x**2.5).sum())
case("x^0.3 at 1e-5", [1e-5])(lambda m, x: (x**0.3).sum())
case("barrier", [1e-3, 1.0, 1 - 1e-3])(lambda m, x: -(m.log(x)).sum() - 0.5 * (m.log(1.0001 - x)).sum())
case("exp x, not defined below 0", [0.0, 0.5], np.exp)(lambda m, x: m.where(x >= 0, m.exp(x), x * np.nan).sum())
case("simplex log", [0.2, 0.3, 0.4999999])(lambda m, x: m.log(1 - x.sum()))
case("overflow beyond", [709.0])(lambda m, x: m.exp(x).sum())
case("log cosh big", [300.0, -2.0])(lambda m, x: m.log(m.cosh(x)).sum())
# derivatives that vanish
case("x^2 y at 0", [0.0, 0.0])(lambda m, x: x[0] ** 2 * x[1])
case("x^5 at 0", [0.0])(lambda m, x: (x**5).sum())
case("cos at pi", [np.pi], lambda x: -np.sin(x))(lambda m, x: m.cos(x).sum())
case("dead relu", [-1.0, 1.0], lambda x: 1.0 * (x > 0))(lambda m, x: (x * (x > 0)).sum())
case("exp(-1000)", [1000.0, 1.0])(lambda m, x: m.exp(-x).sum())
case("erf-like exp(-x^2) 5", [5.0, 0.2])(lambda m, x: m.exp(-x * x).sum())
case("saddle", [0.0, 0.0])(lambda m, x: x[0] ** 2 - x[1] ** 2)
case("monkey saddle", [0.0, 0.0])(lambda m, x: x[0] ** 3 - 3 * x[0] * x[1] ** 2)
case("4th power at min 1", [1.0, 2.0])(lambda m, x: (x[0] - 1) ** 4 + (x[1] - 2) ** 4 * 1e3)
case("x^3 at 0 beside 1", [0.0, 1.0])(lambda m, x: (x**3).sum())
case("exp(-1/x^2)-like flat", [0.1])(lambda m, x: m.exp(-1 / (x * x)).sum())
case("1e8(x-3)^2 at 3", [3.0])(lambda m, x: 1e8 * ((x - 3) ** 2).sum())
case("1e-8 x^2 at 0", [0.0])(lambda m, x: 1e-8 * (x**2).sum())
case("least squares at min", [1.0, 2.0])(lambda m, x: (x[0] + x[1] - 3) ** 2 + (x[0] - x[1] + 1) ** 2)
case("near min", [1.0 + 1e-6, 2.0])(lambda m, x: ((x[0] - 1) ** 2).sum() + (x[1] - 2) ** 2 + 5)
case("scale invariance", SECOND.standard_normal(4))(lambda m, x: (x[0] * x[1] + x[2] * x[3]) / (x * x).sum())


def bn(m, x):
    z = _like(m, WD[:6, :2], x) @ x[:2] + x[2]
    z = (z - z.mean()) / m.sqrt(((z - z.mean()) ** 2).mean())
    return (z * _like(m, FIX, x)).sum()


FIX = SECOND.standard_normal(6)


def bn_g(x):
    out = right_gradient(bn, x, None)
    out[2] = 0.0
    return out


case("batch norm bias", [0.5, -1.0, 0.3], bn_g)(bn)


def shift(m, x):
    return m.log(m.exp(x - x.sum() / 3).sum())


case("shift invariant", SECOND.standard_normal(3))(shift)
case(
    "softmax both shift",
    [0.5, 0.1, -0.3, 7.0],
    lambda x: np.r_[(lambda p: p - np.array([1, 0, 0]))(np.exp(x[:3]) / np.exp(x[:3]).sum()), 0.0],
)(lambda m, x: m.log(m.exp(x[:3] + x[3]).sum()) - x[0] - x[3])
# models
LX = SECOND.standard_normal((200, 3))
LY = (SECOND.standard_normal(200) > 0) * 1.0
case("logistic regression", SECOND.standard_normal(3))(
    lambda m, x: (m.log(1 + m.exp(_like(m, LX, x) @ x)) - _like(m, LY, x) * (_like(m, LX, x) @ x)).mean()
)


def rnn(m, x):
    h = x[0] * 0
    for t in range(50):
        h = m.tanh(x[0] * h + x[1] * np.sin(t) + x[2])
    return h


case("rnn 50", [0.9, 1.0, 0.1])(rnn)


def rnn2(m, x):
    h = x[0] * 0 + 0.5
    for t in range(200):
        h = m.tanh(x[0] * h + x[1] * np.sin(t))
    return h


case("rnn 200", [1.5, 1.0])(rnn2)


def van_der_pol(m, x):
    """100 steps of Euler's method."""
    y, v = x[0], x[1]
    for _ in range(100):
        y, v = y + 0.05 * v, v + 0.05 * (x[2] * (1 - y * y) * v - y)
    return y


case("van der Pol", [2.0, 0.0, 1.0])(van_der_pol)
case("Lennard-Jones 0.9", [0.9])(lambda m, x: (4 * (x**-12 - x**-6)).sum())
case("Lennard-Jones 3", [3.0])(lambda m, x: (4 * (x**-12 - x**-6)).sum())
case("LJ at min", [2 ** (1 / 6)], lambda x: 4 * (-12 * x**-13 + 6 * x**-7))(lambda m, x: (4 * (x**-12 - x**-6)).sum())
case("Arrhenius", [300.0, 8e4, 1e13])(lambda m, x: x[2] * m.exp(-x[1] / (8.314 * x[0])))
case("gravity SI", [5.97e24, 7.3e22, 3.84e8])(lambda m, x: 6.67e-11 * x[0] * x[1] / x[2] ** 2)
case("Planck", [6.6e-34 * 1e15, 1.38e-23 * 5000])(lambda m, x: 1 / (m.exp(x[0] / x[1]) - 1))
case("Poisson nll", [2.0, -1.0, 5.0])(lambda m, x: (m.exp(x) - 3 * x).sum())
case("gaussian sigma 1e-6", [0.0, -13.8])(lambda m, x: -0.5 * ((1e-6 - x[0]) * m.exp(-x[1])) ** 2 - x[1])
case("attention", SECOND.standard_normal(12))(
    lambda m, x: m.log(m.exp(x[:6].reshape(2, 3) @ x[6:].reshape(3, 2)).sum())
)
case("polynomial 8", [0.7])(lambda m, x: sum((-1) ** i * x[0] ** i * (i + 1) for i in range(9)))
case("Horner wilkinson", [2.5])(
    lambda m, x: (x - 1)[0] * (x - 2)[0] * (x - 3)[0] * (x - 4)[0] * (x - 5)[0] * (x - 6)[0]
)
case("ackley-like", [0.5, -1.0])(
    lambda m, x: -20 * m.exp(-0.2 * m.sqrt(0.5 * (x * x).sum())) - m.exp(0.5 * m.cos(2 * np.pi * x).sum())
)
case("rastrigin", [2.1, -3.3])(lambda m, x: (x * x - 10 * m.cos(2 * np.pi * x)).sum() + 20)
case("rastrigin at min", [0.0, 0.0])(lambda m, x: (x * x - 10 * m.cos(2 * np.pi * x)).sum() + 20)
case("beale", [1.0, 1.0])(lambda m, x: (1.5 - x[0] + x[0] * x[1]) ** 2 + (2.25 - x[0] + x[0] * x[1] ** 2) ** 2)
case("powell scaled", [0.0, 1.0])(
    lambda m, x: (1e4 * x[0] * x[1] - 1) ** 2 + (m.exp(-x[0]) + m.exp(-x[1]) - 1.0001) ** 2
)
case("brown scaled", [1.0, 1.0])(lambda m, x: (x[0] - 1e6) ** 2 + (x[1] - 2e-6) ** 2 + (x[0] * x[1] - 2) ** 2)
case("freudenstein", [0.5, -2.0])(
    lambda m, x: (
        (-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1]) ** 2 + (-29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]) ** 2
    )
)
case("geometric mean", np.abs(SECOND.standard_normal(10)) + 0.1)(lambda m, x: m.exp(m.log(x).mean()))
case("harmonic", np.abs(SECOND.standard_normal(10)) + 0.1)(lambda m, x: 10 / (1 / x).sum())
case("power tower", [1.3])(lambda m, x: (x ** (x**x)).sum())
case("sigmoid chain", SECOND.standard_normal(3))(lambda m, x: (1 / (1 + m.exp(-5 / (1 + m.exp(-x))))).sum())
case("KL", [0.0, 0.0, -0.5, 0.1])(lambda m, x: 0.5 * (x[:2] ** 2 + m.exp(2 * x[2:]) - 1 - 2 * x[2:]).sum())
case("KL at prior", [0.0, 0.0, 0.0, 0.0])(lambda m, x: 0.5 * (x[:2] ** 2 + m.exp(2 * x[2:]) - 1 - 2 * x[2:]).sum())
case("big sum 1e6 with sin", SECOND.standard_normal(10**6), np.cos)(lambda m, x: m.sin(x).sum())
case("mean exp 1e5", SECOND.standard_normal(10**5), lambda x: np.exp(x) / x.size)(lambda m, x: m.exp(x).mean())
case("big with offset", SECOND.standard_normal(2000), lambda x: 2 * x)(lambda m, x: 1e9 + (x * x).sum())
case("norm of 3000", SECOND.standard_normal(3000), lambda x: x / np.sqrt((x * x).sum()))(
    lambda m, x: m.sqrt((x * x).sum())
)
case("log x of 5000 over scales", 10.0 ** SECOND.uniform(-6, 6, 5000), lambda x: 1 / x)(lambda m, x: m.log(x).sum())
case("x^2 of 5000 over scales", 10.0 ** SECOND.uniform(-1, 1, 5000), lambda x: 2 * x)(lambda m, x: (x * x).sum())


# ---------------------------------------------------------------------------------- the checkers
def accepted_by_minivi(name, gradient):
    """Whether minivi's checker is satisfied."""
    from minivi.gradcheck import gradcheck

    f, x, _ = CASES[name]
    with np.errstate(all="ignore"):
        return gradcheck(lambda x: np.float64(f(np, x)), x, gradient=lambda x: gradient).ok


def accepted_by_torch(name, gradient, **tolerances):
    """Whether ``torch.autograd.gradcheck`` is (its fast mode above 1,000 inputs)."""
    import torch

    f, x, _ = CASES[name]

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return f(torch, x).double()

        @staticmethod
        def backward(ctx, g):
            return g * torch.as_tensor(gradient)

    point = torch.tensor(x, requires_grad=True)
    return torch.autograd.gradcheck(
        Function.apply, (point,), raise_exception=False, fast_mode=x.size > 1000, **tolerances
    )


@np.errstate(all="ignore")
def judge(accepted, names):
    """The names of functions whose right gradient is not accepted, and of those of which a wrong one is; counts."""
    refused, missed, wrong, caught = [], [], 0, 0
    for name in names:
        f, x, gradient = CASES[name]
        if not accepted(name, right_gradient(f, x, gradient)):
            refused.append(name)
        for g in wrong_gradients(name):
            wrong += 1
            if not accepted(name, g):
                caught += 1
            elif name not in missed:
                missed.append(name)
    return refused, missed, wrong, caught


def main():
    """Judge both checkers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/gradcheck.md")
    parser.add_argument("--long", action="store_true", help="the reductions of 1e5 to 1e7 numbers too, many minutes")
    args = parser.parse_args()
    names = [name for name, (_, x, _) in CASES.items() if args.long or x.size <= 1000]
    lines = ["| checker | right gradients accepted | wrong gradients rejected |", "| --- | --- | --- |"]
    checkers = {"minivi": accepted_by_minivi}
    try:
        import torch

        torch_name = f"PyTorch {torch.__version__.split('+')[0]}, `torch.autograd.gradcheck`"
        checkers[f"{torch_name}, its defaults (relative tolerance 1e-3)"] = accepted_by_torch
        checkers[f"{torch_name}, rtol=4e-4, atol=1e-7"] = partial(accepted_by_torch, rtol=4e-4, atol=1e-7)
    except ImportError:
        print("PyTorch is not installed: minivi alone")
    details = []
    for checker, accepted in checkers.items():
        refused, missed, wrong, caught = judge(accepted, names)
        n = len(names)
        lines.append(f"| {checker} | {n - len(refused)} of {n} | {caught} of {wrong} |")
        details.append(f"{checker} does not accept the right gradient of {len(refused)}: {'; '.join(refused) or '-'}.")
        some = "; ".join(missed[:20]) + ("; ..." if len(missed) > 20 else "")
        details.append(f"{checker} accepts a wrong gradient of {len(missed)}: {some or '-'}.")
    print("\n".join([*lines, "", *details]))
    if args.write:
        text, caution = (part.replace("\n", " ").strip() for part in __doc__.split("\n\n")[2:4])
        by = f"NumPy {np.__version__}, Python {platform.python_version()}, {datetime.date.today().isoformat()}"
        path = Path(__file__).resolve().parents[1] / "docs" / "gradcheck.md"
        path.parent.mkdir(exist_ok=True)
        words = f"--write{' --long' if args.long else '`, without the long reductions of `--long'}"
        blocks = [
            "# Checkers of gradients",
            text,
            f"`python tests/gradcheck_bar.py {words}`, {by}:",
            "\n".join(lines),
            caution,
        ]
        path.write_text("\n\n".join([*blocks, *details]) + "\n")


if __name__ == "__main__":
    main()
