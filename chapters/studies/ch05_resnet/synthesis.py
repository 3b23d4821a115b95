"""Bits per dimension by model (Table 5.2), and the time to draw an image (section 5.6.2.2)."""

# %% [markdown]
# ## Models
#
# Beside the ResNet VAE stand a PixelCNN-like model, masked convolutions whose last layer gives a discretized logistic
# for each channel, of about as many parameters; NICE and Real NVP with convolutional couplings at one scale, on levels
# spread over their cells; and a Gaussian with full covariance on such data.

# %%
import math
import time

import numpy as np

from minivi import bounds, data, evaluation, nn, ops, optim, plots
from minivi.distributions import DiscretizedLogistic
from minivi.experiments import experiment
from minivi.experiments.results import mean_and_error
from minivi.models import ResNetVAE
from minivi.nn import Conv2d, MaskedConv2d, Module
from minivi.random import Generator
from minivi.tensor import Parameter, no_grad
from minivi_chapters.studies.ch05_resnet._shared import levels, measured

NORM = {"init": nn.normal(0.05), "weight_norm": True}


class PixelCNN(Module):
    """p(x) = prod_i p(x_i | x_before i) over pixels by rows, and the channels of a pixel."""

    def __init__(self, shape, maps, depth, count, rng):
        self.shape, self.levels, groups = shape, count, {"groups": shape[2], **NORM}
        self.first = MaskedConv2d(shape[2], maps, 5, rng, strict=True, **groups)
        self.layers = [MaskedConv2d(maps, maps, 3, rng, **groups) for _ in range(depth)]
        self.heads = MaskedConv2d(maps, 2 * shape[2], 3, rng, scale=0.1, **groups)

    @property
    def reach(self):
        """How far above and beside a pixel the model looks."""
        return 3 + len(self.layers)

    def conditionals(self, x):
        """Location and log scale of every number, (B, H, W, C)."""
        h = self.first(x - 0.5)
        for layer in self.layers:
            h = h + layer(ops.elu(h))
        out = self.heads(ops.elu(h))
        return 0.5 + out[..., 0::2], out[..., 1::2] - 2.0

    def log_prob(self, x):
        """(B, D) -> (B,), in nats."""
        mu, log_scale = self.conditionals(ops.reshape(x, shape=(-1, *self.shape)))
        flat = (len(x), -1)
        return DiscretizedLogistic(
            ops.reshape(mu, shape=flat), ops.reshape(log_scale, shape=flat), self.levels
        ).log_prob(x)

    def sample(self, u, fast):
        """Images from uniform noise ``u`` (B, H, W, C), a number at a time.

        Each time the model runs on the whole image, or if ``fast`` on the part of it that the number depends on.
        """
        x, (height, width, channels) = np.zeros_like(u), self.shape
        for i in range(height):
            for j in range(width):
                rows = slice(max(0, i - self.reach), i + 1) if fast else slice(0, height)
                columns = slice(max(0, j - self.reach), j + self.reach + 1) if fast else slice(0, width)
                for c in range(channels):
                    mu, log_scale = map(np.asarray, self.conditionals(x[:, rows, columns]))
                    at = (slice(None), i - rows.start, j - columns.start, c)
                    z = mu[at] + np.exp(log_scale[at]) * (np.log(u[:, i, j, c]) - np.log1p(-u[:, i, j, c]))
                    level = np.clip(np.floor(z * self.levels), 0, self.levels - 1)
                    x[:, i, j, c] = level / (self.levels - 1)
        return x


class Spread:
    """Levels as real numbers: each spread evenly over its cell, then of mean 0 and variance 1 (chapter 4)."""

    def __init__(self, x, count):
        self.count, self.mean, self.std = count, 0.0, 1.0
        v = self(x, Generator(100)).astype(np.float64)
        self.mean, self.std = v.mean(axis=0), v.std(axis=0)

    def __call__(self, x, rng):
        """x = k / (L - 1), (N, D) -> v in float32."""
        u = (np.rint(np.float64(self.count - 1) * x) + rng.random(x.shape)) / self.count
        return ((u - self.mean) / self.std).astype(np.float32)

    def bits(self, log_p):
        """Bits per dimension, at most, of images with log p(v) = ``log_p``, (N,)."""
        nats = log_p - np.log(self.std * self.count).sum()
        return evaluation.bits_per_dimension(nats, len(self.std))


class ConvolutionalCoupling(Module):
    """Levels' continuous v -> noise: each 2x2 pixels become channels, of which layers in turn move one half.

    "NICE": v_b + m(v_a), then one scale for each number; "Real NVP": v_b exp(s(v_a)) + m(v_a), s within +-1.
    """

    def __init__(self, shape, kind, layers, maps, rng):
        self.small = (shape[0] // 2, shape[1] // 2, 4 * shape[2])
        half, self.kind = self.small[2] // 2, kind
        outputs = half * (1 if kind == "NICE" else 2)
        sizes = [half, maps, maps, outputs]
        pairs = [(i, o, 0.1 if o == outputs else 1.0) for i, o in zip(sizes[:-1], sizes[1:], strict=True)]
        self.networks = [[Conv2d(i, o, 3, rng, scale=scale, **NORM) for i, o, scale in pairs] for _ in range(layers)]
        self.log_scale = Parameter(np.zeros(math.prod(shape), "float32"))

    def squeezed(self, v, shape):
        """(B, D) -> (B, H / 2, W / 2, 4 C)."""
        v = v.reshape(len(v), self.small[0], 2, self.small[1], 2, shape[2])
        return v.transpose(0, 1, 3, 2, 4, 5).reshape(len(v), *self.small)

    def log_prob(self, v):
        """log p(v), (B,), of squeezed v."""
        half, total = self.small[2] // 2, 0.0
        a, b = v[..., :half], v[..., half:]
        for layers in self.networks:
            h = a
            for layer in layers[:-1]:
                h = ops.elu(layer(h))
            out = layers[-1](h)
            if self.kind == "NICE":
                b = b + out
            else:
                s = ops.tanh(out[..., half:])
                b, total = b * ops.exp(s) + out[..., :half], total + ops.sum(s, axis=(1, 2, 3))
            a, b = b, a
        z = ops.reshape(ops.concatenate([a, b], axis=-1), shape=(len(v), -1)) * ops.exp(self.log_scale)
        log_det = total + ops.sum(self.log_scale)
        return log_det - 0.5 * ops.sum(ops.square(z), axis=1) - 0.5 * z.shape[1] * math.log(2.0 * math.pi)


QUICK = {
    "data": "digits", "images": 1500, "test": 297, "depth": 2, "maps": 8, "latents": 2, "pixel_maps": 28,
    "pixel_depth": 2, "couplings": 4, "epochs": 5, "batch": 50, "samples": 32, "drawn": 20, "naive": 2,
}  # fmt: skip
LAPTOP = {
    "data": "cifar10_small", "images": 10_000, "test": 1000, "depth": 3, "maps": 32, "latents": 8, "pixel_maps": 72,
    "pixel_depth": 7, "couplings": 6, "epochs": 5, "batch": 32, "samples": 100, "drawn": 100, "naive": 1,
}  # fmt: skip
PAPER = LAPTOP | {
    "data": "cifar10", "images": 50_000, "test": 10_000, "depth": 20, "maps": 160, "latents": 32, "pixel_maps": 480,
    "pixel_depth": 26, "epochs": 500, "batch": 16,
}  # fmt: skip
# Table 5.2, bits per dimension.
TABLE_5_2 = {
    "all levels alike": 8.00, "Gaussian, full covariance": 4.70, "NICE": 4.48, "Real NVP": 3.49, "PixelCNN-like": 3.03,
    "ResNet VAE with IAF": 3.11,
}  # fmt: skip
BEST, DEPTH = 3.00, 20  # PixelRNN's bits, and the depth of the ResNet VAE (5.B.9)
PUBLISHED_SECONDS = {"ResNet VAE": 0.05, "PixelCNN, naive": 52.0}


@experiment(
    "table_5_2",
    title="bits per dimension by model, and seconds to draw an image",
    mirrors="thesis Table 5.2 and section 5.6.2.2",
    budgets={"quick": QUICK, "laptop": LAPTOP, "paper": PAPER},
    minutes={"quick": 0.7, "laptop": 18, "paper": 60 * 24 * 70},
)
def table_5_2(run):
    """Train each model; bits per dimension of test images, and the time of synthesis."""
    s = run.settings
    sets = data.load(s.data, None, False)
    shape = sets.shape if len(sets.shape) == 3 else (*sets.shape, 1)
    train, test = sets.train[: s.images], sets.test[: s.test]
    count, size = levels(s.data), math.prod(shape)
    coding = Spread(train, count)

    def fitted(name, model, loss, train, prepare=None):
        def start():
            with nn.initialise_by_data():
                loss(train[: s.batch] if prepare is None else prepare(train[: s.batch], Generator(100)), Generator(101))
            return model, loss, optim.AdaMax(model.parameters(), 2e-3)

        return run.train(
            f"table_5_2_{s.data}_{name}", start, train, epochs=s.epochs, batch_size=s.batch, rng=Generator(102),
            prepare=prepare,
        )[0]  # fmt: skip

    bits = {"all levels alike": np.full(2, np.log2(count))}
    vae = ResNetVAE(shape, s.depth, s.maps, s.latents, flow_hidden=1, levels=count, rng=Generator([run.seed, 103]))
    vae = fitted("vae", vae, lambda x, rng: -bounds.free_bits(*vae.reconstruction_and_kl(x, rng), 0.25), train)
    few = test[: max(1, len(test) // 10)]
    log_p = evaluation.log_likelihood(vae, few, Generator(104), s.samples, run.progress)
    bits["ResNet VAE with IAF"] = evaluation.bits_per_dimension(log_p.values, size)
    pixel = PixelCNN(shape, s.pixel_maps, s.pixel_depth, count, Generator([run.seed, 105]))
    pixel = fitted("pixelcnn", pixel, lambda x, rng: -pixel.log_prob(x).mean(), train)
    with no_grad():
        parts = [np.asarray(pixel.log_prob(test[i : i + 100])) for i in range(0, len(test), 100)]
    bits["PixelCNN-like"] = evaluation.bits_per_dimension(np.concatenate(parts), size)
    v = coding(test, Generator(106))
    bits["Gaussian, full covariance"] = coding.bits(gaussian_log_prob(coding(train, Generator(107)), v))
    for kind in ("NICE", "Real NVP"):
        flow = ConvolutionalCoupling(shape, kind, s.couplings, s.maps, Generator([run.seed, 108]))
        prepare = lambda x, rng, flow=flow: flow.squeezed(coding(x, rng), shape)
        flow = fitted(kind, flow, lambda v, rng, flow=flow: -flow.log_prob(v).mean(), train, prepare)
        with no_grad():
            parts = [np.asarray(flow.log_prob(flow.squeezed(v[i : i + 100], shape))) for i in range(0, len(v), 100)]
        bits[kind] = coding.bits(np.concatenate(parts).astype(np.float64))
    return {
        "bits": {name: mean_and_error(values) for name, values in bits.items()},
        "bound": measured(vae, few, 0)[0],
        "parameters": {"ResNet VAE": sum(p.size for p in vae.parameters()),
                       "PixelCNN": sum(p.size for p in pixel.parameters())},
        **synthesis(s, vae, pixel, shape),
    }  # fmt: skip


def gaussian_log_prob(train, x):
    """log N(x; mean, covariance) of the training data, (N,)."""
    train, x = np.float64(train), np.float64(x)
    mean = train.mean(axis=0)
    lower = np.linalg.cholesky(np.cov(train - mean, rowvar=False) + 1e-6 * np.eye(train.shape[1]))
    z = np.linalg.solve(lower, (x - mean).T)
    return -0.5 * (z**2).sum(axis=0) - np.log(np.diag(lower)).sum() - 0.5 * x.shape[1] * np.log(2 * np.pi)


def synthesis(s, vae, pixel, shape):
    """Seconds an image of each way of drawing, and whether the fast PixelCNN draws what the naive one does."""
    seconds = {}

    def timed(name, images, draw):
        begun = time.perf_counter()
        drawn = draw()
        seconds[name] = (time.perf_counter() - begun) / images
        return drawn

    vae.sample(s.drawn, Generator(109))  # compiles
    timed("ResNet VAE", s.drawn, lambda: vae.sample(s.drawn, Generator(110)))
    u = Generator(111).random((s.naive, *shape), dtype=np.float32)
    with no_grad():
        fast = timed("PixelCNN, fast", s.naive, lambda: pixel.sample(u, True))
        naive = timed("PixelCNN, naive", s.naive, lambda: pixel.sample(u, False))
    return {"synthesis_seconds": seconds, "alike": np.mean(np.abs(fast - naive) * (pixel.levels - 1) < 0.5)}


@table_5_2.table
def _(n, table):
    real = n.settings.data.startswith("cifar10")
    for name, (mean, error) in n.bits.items():
        note = f"{mean:.3f} +- {error:.3f}"
        if name == "ResNet VAE with IAF":
            note += f", {n.settings.samples} importance samples; the bound: {n.bound:.3f}"
        table.row(name, mean, TABLE_5_2[name] if real else None, unit="bits/dim", note=note)
    seconds = n.synthesis_seconds
    for name, value in seconds.items():
        shown = f"{1000 * value:.1f} ms an image"
        table.row(f"synthesis, {name}", value, PUBLISHED_SECONDS.get(name) if real else None, unit="s", note=shown)
    for name, number in n.parameters.items():
        table.row(f"parameters, {name}", number, unit="")
    s, (vae, error) = n.settings, n.bits["ResNet VAE with IAF"]
    about = {"seeds": 1, "short": f"{s.epochs} epochs; depth {s.depth} for {DEPTH}" if s.depth < DEPTH else ""}
    par = table.says(
        "thesis 5.6.2.1",
        "Our architecture with IAF achieves 3.11 bits per dimension, which is ... almost on par with the best reported "
        "result using the PixelCNN.",
        **about,
    )
    (other, noise), allowed = n.bits["PixelCNN-like"], TABLE_5_2["ResNet VAE with IAF"] - BEST
    label = "bits of the VAE less those of the PixelCNN-like model, at most as in Table 5.2"
    par(vae - other, "<=", allowed, 0.0, label, standard_error=np.hypot(error, noise))
    flows = table.says(
        "thesis 4.4",
        "At the time of writing, no such models has not yet been demonstrated to lead to the similar performance as "
        "purely autoregressive or VAE-based models in terms of data log-likelihood",
        **about,
    )
    for name in ("NICE", "Real NVP"):
        other, noise = n.bits[name]
        flows(other - vae, ">=", 0.0, 0.0, f"bits of {name} less the VAE's", standard_error=np.hypot(error, noise))
    orders = table.says(
        "thesis 8",
        "models of natural images that are close to state-of-the-art in terms of log-likelihood, while allowing for "
        "orders of magnitude faster sampling",
    )
    ratio = seconds["PixelCNN, naive"] / seconds["ResNet VAE"]
    orders(ratio, ">=", 100.0, 0.0, "seconds of PixelCNN, naive, over the VAE's: two orders of magnitude")
    custom = table.says(
        "thesis 5.6.2.2",
        "With custom code that only evaluates the relevant part of the network, PixelCNN sampling could be sped up "
        "significantly; however the speedup will be limited on parallel hardware",
    )
    ratio = seconds["PixelCNN, naive"] / seconds["PixelCNN, fast"]
    custom(ratio, ">=", 1.0, 0.0, "seconds of PixelCNN, naive, over the fast one's")
    ratio = seconds["PixelCNN, fast"] / seconds["ResNet VAE"]
    custom(ratio, ">=", 1.0, 0.0, "seconds of PixelCNN, fast, over the VAE's")
    table.check(n.alike, ">=", 0.99, 0.0, "the fast PixelCNN draws what the naive one draws: share of levels")


@table_5_2.figure()
def _(n):
    fig = plots.figure(9.0, 3.4)
    left, right = fig.subplots(1, 2)
    ours = {name: mean for name, (mean, _) in n.bits.items()}
    left.barh(range(len(ours)), list(ours.values()), color="0.7", edgecolor="black", height=0.5)
    left.set_yticks(range(len(ours)), ours, fontsize=8)
    left.invert_yaxis()
    plots.panel(left, f"test images of {n.settings.data}", "bits per dimension", "")
    names = list(n.synthesis_seconds)
    right.barh(range(len(names)), list(n.synthesis_seconds.values()), color="0.7", edgecolor="black", height=0.5)
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.invert_yaxis()
    plots.panel(right, "synthesis", "seconds an image", "", log="x")
    return fig
