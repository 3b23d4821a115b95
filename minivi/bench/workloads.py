"""What each workload computes: sizes, data, initial weights, noise and operations, the same for every contestant.

A contestant (``in_minivi.py``, ``in_numpy.py``, ``in_torch.py``, ...) gives each workload as ``build(w) -> step``, and
``step(batch, noise)`` does one whole training step: noise, forward, backward, update. It draws its own noise when
``noise`` is None; for the check that all contestants compute the same thing, they are handed the same.

This file needs NumPy alone, since it also runs in environments of the peers where there is no Numba.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Arrays = tuple[np.ndarray, ...]

ADAM = {"step_size": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
ONES = 0.13  # the share of ones in binarized MNIST
IMAGES = 10_000
SQUARES = 100_000  # of so many normals the squares are averaged; of all it would show in the memory peak
GATE_BIAS = 1.5  # of iaf
LOG_ALPHA = math.log(0.25)
# Kingma, Salimans and Welling (2015), equation 14: -KL = n (log(alpha) / 2 + c1 alpha + c2 alpha^2 + c3 alpha^3).
C1, C2, C3 = 1.16145124, -1.50204118, 0.58629921
DATA_SIZE = 60_000
LABELLED, ALPHA = 0.002, 0.1  # of m2: the share of data with labels, and the weight of the classifier's term


@dataclass(frozen=True)
class Workload:
    """One row of the benchmark; a subclass says what its family computes on.

    Attributes:
        name: as in the table; several sizes of one thing are named "gemm 2048x2048x2048 nn".
        text: one line that says what a step is.
        flops: floating-point operations of a step's dense matrix products, without gradients that nobody needs; what
            masks and zeros would save is counted.
        batch: B, data in a minibatch.
        noise: shapes of the standard normal arrays that a step draws.
        tolerance: how far contestants' values may differ, relative to the value.
    """

    name: str
    text: str
    flops: int = 0
    batch: int = 0
    noise: tuple[tuple[int, ...], ...] = ()
    tolerance: float = 1e-5

    @property
    def family(self) -> str:
        """What ``--only`` calls it."""
        return self.name.split()[0]

    def parameters(self) -> list[Arrays]:
        """Initial values, the arrays of each layer."""
        return []

    def batches(self) -> list[Arrays]:
        """What steps are given in turn."""
        return [()]

    def fixed_noise(self) -> list[np.ndarray]:
        """The noise of the check, of the shapes ``noise``."""
        rng = np.random.default_rng(4)
        return [rng.standard_normal(shape, np.float32) for shape in self.noise]

    def value(self, result: np.ndarray) -> float:
        """The number to compare between contestants: a loss in nats, or the mean element."""
        return float(np.mean(result, dtype=np.float64))


@dataclass(frozen=True)
class Network(Workload):
    """A network trained by Adam on binary images: vae, iwae50, made, m2, and more in its subclasses.

    Attributes:
        layers: inputs and outputs of each layer, encoder before decoder.
        samples: K, posterior samples for each datum.
    """

    layers: tuple[tuple[int, int], ...] = ()
    samples: int = 1

    @property
    def pixels(self) -> int:
        """D."""
        return self.layers[0][0]

    def parameters(self) -> list[Arrays]:
        """Of each layer W (I, O) by Glorot and b (O,)."""
        rng = np.random.default_rng(3)
        return [(_weight(rng, i, o), np.zeros(o, np.float32)) for i, o in self.layers]

    def _images(self):
        """The generator and the minibatches x (B, D) of zeros and ones."""
        rng = np.random.default_rng(0)
        count = min(IMAGES, 100 * self.batch) // self.batch
        return rng, (rng.random((count, self.batch, self.pixels), np.float32) < ONES).astype(np.float32)

    def batches(self) -> list[Arrays]:
        """Minibatches x (B, D) of zeros and ones."""
        return [(x,) for x in self._images()[1]]


class Masked(Network):
    """MADE."""

    def masks(self) -> Arrays:
        """Its masks in the natural order, one for each layer, of its weight's shape (Germain et al., 2015)."""
        pixels, hidden = self.layers[0]
        inputs, between = np.arange(1, pixels + 1), np.arange(hidden) % (pixels - 1) + 1
        return (
            (between >= inputs[:, None]).astype(np.float32),
            (inputs > between[:, None]).astype(np.float32),
        )


@dataclass(frozen=True)
class Flow(Network):
    """A VAE with inverse autoregressive flow; ``layers`` begin with those of the flow's networks, three each.

    Attributes:
        steps: T.
        context: length of the encoder's extra output, which goes into each of the flow's layers.
    """

    steps: int = 0
    context: int = 0

    @property
    def pixels(self) -> int:
        """D."""
        return self.layers[3 * self.steps][0]

    def parameters(self) -> list[Arrays]:
        """As of any network; each three layers of the flow are followed by three matrices (H, O) for the context."""
        rng, arrays = np.random.default_rng(3), []
        for n, (inputs, outputs) in enumerate(self.layers):
            arrays.append((_weight(rng, inputs, outputs), np.zeros(outputs, np.float32)))
            if n < 3 * self.steps and n % 3 == 2:
                arrays.append(tuple(_weight(rng, self.context, o) for _, o in self.layers[n - 2 : n + 1]))
        return arrays

    def masks(self) -> Arrays:
        """Of one step, which the others share; each latent has two outputs, m and s, side by side."""
        latents, hidden = self.layers[0]
        inputs, between = np.arange(1, latents + 1), 1 + np.arange(hidden) * (latents - 1) // hidden
        return (
            (between >= inputs[:, None]).astype(np.float32),
            (between >= between[:, None]).astype(np.float32),
            (np.repeat(inputs, 2) > between[:, None]).astype(np.float32),
        )


class SemiSupervised(Network):
    """M2: half of the data have labels, for the others every class is gone through (thesis eq. 3.10)."""

    @property
    def classes(self) -> int:
        """C."""
        return self.layers[1][1]

    def parameters(self) -> list[Arrays]:
        """As of any network, in the order classifier, encoder, decoder; after the encoder's first layer that of y."""
        rng, arrays = np.random.default_rng(3), []
        for n, (i, o) in enumerate(self.layers):
            arrays.append((_weight(rng, i, o), np.zeros(o, np.float32)))
            if n == 2:
                arrays.append((_weight(rng, self.classes, o),))
        return arrays

    def batches(self) -> list[Arrays]:
        """Minibatches of labelled x (B / 2, D), labels (B / 2,), and unlabelled x (B / 2, D)."""
        rng, x = self._images()
        half = self.batch // 2
        labels = rng.integers(0, self.classes, (len(x), half))
        return [(a[:half], y, a[half:]) for a, y in zip(x, labels, strict=True)]


class Dropout(Network):
    """A classifier with variational dropout."""

    def parameters(self) -> list[Arrays]:
        """As of any network, and log alpha (1,) of each layer."""
        return [(*layer, np.full(1, LOG_ALPHA, np.float32)) for layer in super().parameters()]

    def batches(self) -> list[Arrays]:
        """Minibatches x (B, D) of zeros and ones with labels (B,)."""
        rng, x = self._images()
        return list(zip(x, rng.integers(0, self.layers[-1][1], x.shape[:2]), strict=True))


@dataclass(frozen=True)
class Convolutional(Network):
    """A classifier of images: convolutions with ReLU and max pooling, then ``layers`` (thesis 7.5.3).

    Attributes:
        side: height and width of an image.
        maps: channels of the images and of each convolution.
        size: height and width of the kernels.
    """

    side: int = 0
    maps: tuple[int, ...] = ()
    size: int = 5

    def parameters(self) -> list[Arrays]:
        """Of each convolution its kernel (size, size, I, O) and b (O,); then as of any network, rows by height, width,
        channel."""
        rng, arrays = np.random.default_rng(3), []
        for i, o in zip(self.maps[:-1], self.maps[1:], strict=True):
            taps = self.size * self.size
            arrays.append((_weight(rng, taps * i, o).reshape(self.size, self.size, i, o), np.zeros(o, np.float32)))
        return arrays + [(_weight(rng, i, o), np.zeros(o, np.float32)) for i, o in self.layers]

    def batches(self) -> list[Arrays]:
        """Minibatches of images (B, H, W, C) in [0, 1] with labels (B,)."""
        rng, shape = np.random.default_rng(0), (self.batch, self.side, self.side, self.maps[0])
        classes = self.layers[-1][1]
        return [(rng.random(shape, np.float32), rng.integers(0, classes, self.batch)) for _ in range(10)]


@dataclass(frozen=True)
class Bare(Workload):
    """Work on arrays of one ``shape``, without a network."""

    shape: tuple[int, ...] = ()


class Update(Bare):
    """One update by Adam."""

    def parameters(self) -> list[Arrays]:
        """x (count,)."""
        return [(np.random.default_rng(3).standard_normal(self.shape, np.float32),)]

    def batches(self) -> list[Arrays]:
        """Its gradient (count,)."""
        return [(np.random.default_rng(0).standard_normal(self.shape, np.float32),)]


class Normals(Bare):
    """Standard normals. Generators differ, so the mean squares of some are compared."""

    def value(self, result: np.ndarray) -> float:
        """The mean square."""
        return super().value(np.square(result[:SQUARES]))


@dataclass(frozen=True)
class Product(Bare):
    """A matrix product of the sizes ``shape`` = (M, K, N); ``layout`` has for each operand "n" or "t" (transposed)."""

    layout: str = ""

    def batches(self) -> list[Arrays]:
        """A and B, as they are stored."""
        rng, (m, k, n) = np.random.default_rng(0), self.shape
        stored = [s[::-1] if t == "t" else s for s, t in zip([(m, k), (k, n)], self.layout, strict=True)]
        return [tuple(rng.random(s, np.float32) for s in stored)]


def _weight(rng, inputs, outputs):
    limit = math.sqrt(6 / (inputs + outputs))
    return rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)


def _products(rows: list[int], layers: tuple[tuple[int, int], ...]) -> int:
    """Operations of y = x W and of both gradients of each layer, except that of the data, x of the first layer."""
    return sum(2 * m * i * o * (2 + (n > 0)) for n, (m, (i, o)) in enumerate(zip(rows, layers, strict=True)))


def _vae(name, text, pixels, hidden, latents, samples, batch) -> Network:
    sizes = (pixels, *hidden, 2 * latents), (latents, *hidden[::-1], pixels)
    layers = tuple(pair for part in sizes for pair in zip(part[:-1], part[1:], strict=True))
    rows = [batch] * (len(layers) // 2) + [samples * batch] * (len(layers) // 2)
    noise = ((samples, batch, latents),)
    return Network(name, text, _products(rows, layers), batch, noise, layers=layers, samples=samples)


def _iaf(text, pixels, hidden, latents, context, steps, width, batch) -> Flow:
    network = (latents, width), (width, width), (width, 2 * latents)
    encoder, decoder = ((pixels, hidden), (hidden, 2 * latents + context)), ((latents, hidden), (hidden, pixels))
    flops = _products([batch] * 4, (*encoder, *decoder))
    flops += steps * sum(6 * batch * (i + context) * o for i, o in network)
    layers = (*network * steps, *encoder, *decoder)
    return Flow("iaf", text, flops, batch, ((1, batch, latents),), layers=layers, steps=steps, context=context)


def _m2(text, pixels, wide, latents, classes, batch) -> SemiSupervised:
    layers = (
        (pixels, wide),
        (wide, classes),
        (pixels, wide),
        (wide, 2 * latents),
        (latents + classes, wide),
        (wide, pixels),
    )
    half = batch // 2
    rows = half * (1 + classes)
    flops = _products([batch] * 2, layers[:2]) + _products([batch, rows, rows, rows], layers[2:])
    return SemiSupervised("m2", text, flops, batch, ((rows, latents),), layers=layers)


def _cnn(text, side, maps, wide, classes, batch) -> Convolutional:
    flops, size = 0, side
    for n, (i, o) in enumerate(zip(maps[:-1], maps[1:], strict=True)):
        flops += _products([batch * size * size], ((25 * i, o),)) + (n > 0) * 2 * batch * size * size * 25 * i * o
        size = -(-size // 2)
    layers = ((size * size * maps[-1], wide), (wide, classes))
    flops += _products([batch] * 2, layers) + 2 * batch * layers[0][0] * wide
    return Convolutional("cnn", text, flops, batch, layers=layers, side=side, maps=maps)


def _gemm(m, k, n, layout="nn") -> Product:
    return Product(f"gemm {m}x{k}x{n} {layout}", "C = A B, float32", 2 * m * k * n, shape=(m, k, n), layout=layout)


def workloads(small: bool = False) -> dict[str, Workload]:
    """All workloads by name.

    Args:
        small: with tiny sizes, to see that everything runs.
    """
    pixels, wide, narrow, batch = (30, 16, 2, 10) if small else (784, 500, 20, 100)
    deep, latents, samples, few = ((8, 8), 5, 4, 5) if small else ((200, 200), 50, 50, 20)
    count = 5_000 if small else 10_000_000
    vae = f"{pixels}-{wide}(tanh)-{narrow} Gaussian and mirror, Bernoulli, batch {batch}, analytic KL, Adam"
    iwae = f"{pixels}-{'-'.join(map(str, deep))}-{latents} tanh and mirror, {samples} samples, batch {few}, Adam"
    made_layers = ((pixels, wide), (wide, pixels))
    made = f"{pixels}-{wide}-{pixels} ReLU, masked, batch {batch}, Adam"
    chain = (30, 16, 4, 3, 2, 9, 10) if small else (784, 450, 32, 64, 4, 320, 100)
    iaf = "{}-{}(softplus)-{} Gaussian and mirror, context {}, {} gated steps of two ELU layers of {}, batch {}, Adam"
    m2 = (30, 16, 2, 3, 10) if small else (784, 500, 50, 10, 200)
    cnn = (8, (2, 3, 4), 9, 10, 5) if small else (32, (3, 64, 64, 128), 1000, 10, 128)
    cnn_text = "{0}x{0} images, 5x5 convolutions {1}, 3x3 max pooling, {2}-{3} ReLU, batch {4}, Adam"
    m2_text = "M2: {}-{}(softplus)-{} Gaussian and mirror, {} classes, batch {}, half of it labelled, Adam"
    sizes, many = (pixels, *([24] if small else [800]) * 3, 10), 10 * batch
    dropout_layers = tuple(zip(sizes[:-1], sizes[1:], strict=True))
    dropout = f"{'-'.join(map(str, sizes))} ReLU, local reparameterisation in each layer, batch {many}, Adam"
    shapes = [(100, 784, 500), (784, 100, 500, "tn"), (100, 500, 784, "nt"), (100, 20, 500), (1000, 200, 784)]
    every = [
        _vae("vae", vae, pixels, (wide,), narrow, 1, batch),
        _vae("iwae50", iwae, pixels, deep, latents, samples, few),
        Masked("made", made, _products([batch] * 2, made_layers), batch, layers=made_layers),
        _iaf(iaf.format(*chain), *chain),
        Dropout(
            "vdropout",
            dropout,
            2 * _products([many] * 4, dropout_layers),  # means and variances
            many,
            tuple((many, outputs) for _, outputs in dropout_layers),
            layers=dropout_layers,
        ),
        _m2(m2_text.format(*m2), *m2),
        _cnn(cnn_text.format(cnn[0], "-".join(map(str, cnn[1])), *cnn[2:]), *cnn),
        Update("adam", f"a bare update of {count:,} parameters", shape=(count,)),
        *(_gemm(*([7, 5, 3, *shape[3:]] if small else shape)) for shape in (shapes[:3] if small else shapes)),
        _gemm(*[64 if small else 2048] * 3),
        # Two mean squares of n normals are apart by 0 with standard deviation 2 / sqrt(n).
        Normals(
            "rng", f"{count:,} standard normals, float32", tolerance=12 / math.sqrt(min(count, SQUARES)), shape=(count,)
        ),
    ]
    return {w.name: w for w in every}
