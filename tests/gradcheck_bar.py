"""The bar for the gradient checker: right and wrong gradients of functions of every kind, by minivi and PyTorch.

    python tests/gradcheck_bar.py              prints what each checker accepts and rejects
    python tests/gradcheck_bar.py --write      and writes docs/gradcheck.md

A case is a function of one array, written once for NumPy and PyTorch (``m`` is either), and a point. Its right gradient
is the imaginary part of f(x + i 1e-200) for each coordinate, exact to rounding, or a formula. A wrong one has one
coordinate, drawn, off by a thousandth; where the right one is 0, by a thousandth of the largest, or of 1.
The functions were fixed before the checker was tried on them.
"""

import argparse
import platform
from pathlib import Path

import numpy as np

CASES = {}
UNJUDGED = set()  # where a thousandth of the derivative is far below f's rounding: the wrong gradient is 1e-3 too large


def case(name, x, gradient=None, lost=False):
    """Decorator: enter ``f(m, x)`` at the point ``x``."""

    def enter(f):
        assert name not in CASES, name
        CASES[name] = f, np.asarray(x, float), gradient
        if lost:
            UNJUDGED.add(name)
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


def wrong_gradient(name):
    """A function that is off by a thousandth in one coordinate."""
    f, x, gradient = CASES[name]
    right = right_gradient(f, x, gradient)
    i = np.random.default_rng([len(name), *name.encode()]).integers(x.size)
    wrong = right.copy()
    if name in UNJUDGED:
        wrong.flat[i] += 1e-3
    elif right.flat[i] == 0.0:
        wrong.flat[i] = 1e-3 * (np.abs(right).max() or 1.0)
    else:
        wrong.flat[i] *= 1.001
    return wrong


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
case("tanh at 20", [20.0], lost=True)(lambda m, x: m.tanh(x).sum())
case("tanh at -20", [-20.0], lost=True)(lambda m, x: m.tanh(x).sum())
case("sigmoid at 40", [40.0], lost=True)(lambda m, x: (1.0 / (1.0 + m.exp(-x))).sum())
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


# ---------------------------------------------------------------------------------- the checkers
def accepted_by_minivi(name, gradient):
    """Whether minivi's checker is satisfied."""
    from minivi.gradcheck import gradcheck

    f, x, _ = CASES[name]
    with np.errstate(all="ignore"):
        return gradcheck(lambda x: np.float64(f(np, x)), x, gradient=lambda x: gradient).ok


def accepted_by_torch(name, gradient):
    """Whether ``torch.autograd.gradcheck`` is, at its defaults (its fast mode above 1,000 inputs)."""
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
    return torch.autograd.gradcheck(Function.apply, (point,), raise_exception=False, fast_mode=x.size > 1000)


def judge(accepted):
    """The names of right gradients that are not accepted, and of wrong ones that are."""
    refused, missed = [], []
    for name, (f, x, gradient) in CASES.items():
        if not accepted(name, right_gradient(f, x, gradient)):
            refused.append(name)
        if accepted(name, wrong_gradient(name)):
            missed.append(name)
    return refused, missed


def main():
    """Judge both checkers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/gradcheck.md")
    args = parser.parse_args()
    lines = ["| checker | right gradients accepted | wrong gradients rejected |", "| --- | --- | --- |"]
    checkers = {"minivi": accepted_by_minivi}
    try:
        import torch

        checkers[f"PyTorch {torch.__version__.split('+')[0]}, `torch.autograd.gradcheck`"] = accepted_by_torch
    except ImportError:
        print("PyTorch is not installed: minivi alone")
    details = []
    for checker, accepted in checkers.items():
        refused, missed = judge(accepted)
        n = len(CASES)
        lines.append(f"| {checker} | {n - len(refused)} of {n} | {n - len(missed)} of {n} |")
        details.append(f"{checker} does not accept: {'; '.join(refused) or 'none'}.")
        details.append(f"{checker} accepts, though wrong: {'; '.join(missed) or 'none'}.")
    print("\n".join([*lines, "", *details]))
    if args.write:
        text = __doc__.split("\n\n")[2].replace("\n", " ")
        head = f"# Checkers of gradients\n\n{text.strip()}\n\nBy `python tests/gradcheck_bar.py --write`, NumPy "
        head += f"{np.__version__}, Python {platform.python_version()}:\n\n"
        path = Path(__file__).resolve().parents[1] / "docs" / "gradcheck.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(head + "\n".join(lines) + "\n\n" + "\n\n".join(details) + "\n")


if __name__ == "__main__":
    main()
