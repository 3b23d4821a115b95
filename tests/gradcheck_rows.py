"""What the gradient checker says of some functions, number by number: a change of its arithmetic is seen, or meant.

    python tests/gradcheck_rows.py         writes it down anew, in gradcheck_rows.txt

The functions are made of operations that every CPU rounds alike; the right derivative of each is beside it.
"""

from pathlib import Path

import numpy as np

from minivi.gradcheck import check_primitive, gradcheck
from minivi.tensor import PRIMITIVES

FILE = Path(__file__).with_suffix(".txt")
SIZES = 2.0**-12 * np.cumprod(np.full(40, 1.5))
ZEROS = np.where(np.arange(40) % 3 == 0, 0.0, np.arange(40) / 7.0)
WEIGHTS = np.array([0.3, 1.7, -0.6])
MANY = np.random.default_rng(0).uniform(0.5, 2.0, (6, 7))  # more than are looked at one by one
CASES = {
    "cubic": (lambda x: (x * x * x - 2.0 * x).sum(), lambda x: 3.0 * x * x - 2.0, [1.7, -0.3]),
    "cubic, wrong": (lambda x: (x * x * x - 2.0 * x).sum(), lambda x: 3.0 * x * x - 2.004, [1.7, -0.3]),
    "edge of a domain": (lambda x: (x * np.sqrt(x)).sum(), lambda x: 1.5 * np.sqrt(x), [0.0, 4.0]),
    "other edge": (lambda x: (np.sqrt(1.0 - x) * (x - 1.0)).sum(), lambda x: 1.5 * np.sqrt(1.0 - x), [1.0, 0.2]),
    "kink nearby": (lambda x: np.abs(x - 1.0).sum(), lambda x: np.sign(x - 1.0), [1.0 + 1e-7, 3.0]),
    "kink": (lambda x: np.maximum(x, 0.0).sum(), lambda x: np.where(x < 0.0, 0.0, 0.5), [0.0, -1.0]),
    "kink, wrong": (lambda x: np.maximum(x, 0.0).sum(), lambda x: np.where(x < 0.0, 0.0, 1.5), [0.0, -1.0]),
    "scales": (lambda x: 1e8 * x[0] + x[1] * x[1], lambda x: np.array([1e8, 2.0 * x[1]]), [3.0, 5.0]),
    "offset": (lambda x: 5e7 + (x * x).sum(), lambda x: 2.0 * x, [0.7]),
    "far": (lambda x: ((x - 1e6) * (x - 1e6)).sum(), lambda x: 2.0 * (x - 1e6), [1e6 + 1.0, 1e6 - 0.3]),
    "pole": (lambda x: (1.0 / x).sum(), lambda x: -1.0 / (x * x), [1e-3, 1e3]),
    "many": (lambda x: (x * x * x).sum(), lambda x: 3.0 * x * x, MANY),
    "many, one wrong": (lambda x: (x * x * x).sum(), lambda x: 3.0 * x * x + 0.1 * (MANY == MANY[2, 3]), MANY),
    "many far": (lambda x: (x * (x - 1e9)).sum(), lambda x: 2.0 * x - 1e9, 1e9 + MANY),
    "many, fine": (lambda x: ((x - 1e6) * (x - 1e6) * (x - 1e6)).sum(), lambda x: 3.0 * (x - 1e6) ** 2, 1e6 + MANY),
    "many sizes": (lambda x: (x * x * x).sum(), lambda x: 3.0 * x * x, SIZES),
    "sizes apart": (lambda x: (x * x * x).sum(), lambda x: 3.0 * x * x, [1e-3, 1e3, 0.0]),
    "many, a root": (lambda x: (x * np.sqrt(np.abs(x))).sum(), lambda x: 1.5 * np.sqrt(np.abs(x)), ZEROS),
    "constant": (lambda x: x[1], lambda x: np.array([0.0, 1.0]), [1.0, 2.0]),
    "equal": (
        lambda x: (x[0] - x[1]) * (x[0] - x[1]), lambda x: 2.0 * (x[0] - x[1]) * np.array([1.0, -1.0]), [1e3, 1e3],
    ),
    "cancelled": (
        lambda x: (x[0] * x[0] + x[1] * x[2]) - x[1] * x[2],
        lambda x: np.array([2.0 * x[0], 0.0, 0.0]), [3.0, 1e3, 1e-2],
    ),
    "shift": (
        lambda x: (WEIGHTS * (WEIGHTS + x[0] - (WEIGHTS + x[0]).sum() / 3.0)).sum() * x[1],
        lambda x: np.array([0.0, (WEIGHTS * (WEIGHTS - WEIGHTS.sum() / 3.0)).sum()]), [1e-3, 50.0],
    ),
    "plateau": (
        lambda x: np.maximum(np.abs(x) - 1e3, 0.0).sum(), lambda x: np.sign(x) * (np.abs(x) > 1e3), [1.0, 2e3],
    ),
    "slight kink": (
        lambda x: (x * x + x + 1e-3 * np.abs(x)).sum(),
        lambda x: 2.0 * x + 1.0 + 1e-3 * np.where(x == 0.0, 1.0005, np.sign(x)), [0.0, 1.0],
    ),
    "narrow domain": (
        lambda x: np.sqrt(1e-6 - (x - 1.0) * (x - 1.0)).sum(),
        lambda x: (1.0 - x) / np.sqrt(1e-6 - (x - 1.0) * (x - 1.0)), [1.0002, 1.0],
    ),
    "cubic on one side": (
        lambda x: np.where(x < 1.0, np.nan, x * x * x).sum(), lambda x: 3.0 * x * x, [1.0, 2.0],
    ),
    "single precision": (
        lambda x: float((np.float32(x) * np.float32(x)).sum()), lambda x: 2.0 * x, [0.7, 1.9],
    ),
}  # fmt: skip


def lines():
    """A line for each row of each report."""
    reports = {name: gradcheck(f, np.asarray(x), gradient=gradient) for name, (f, gradient, x) in CASES.items()}
    reports |= {
        f"primitive {name}": check_primitive(PRIMITIVES[name], name == "divide") for name in ("multiply", "divide")
    }
    for name, report in reports.items():
        for r in report.rows:
            yield f"{name}; {r.where}; {r.numeric:.9g}; {r.error:.2g}; {r.allowed:.6g}; {r.step:.6g}; {r.verdict}"


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n")
