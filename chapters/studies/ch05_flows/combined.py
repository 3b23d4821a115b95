"""Flows as posterior, prior and decoder of one VAE, beside an autoregressive Gaussian (thesis chapter 8)."""

# %% [markdown]
# ## Powerful posteriors, priors and decoders
#
# Chapter 8 suggests maps with cheap inverses, such as Real NVP, for all three parts of a VAE:
#
#     posterior    z = f(z_0; x),  z_0 ~ q_0(z_0 | x)
#     prior        log p(z) = log N(g(z); 0, I) + log |det dg/dz|
#     decoder      log p(x | z) = log N(k(x; z); mu(z), sigma(z)^2) + log |det dk/dx|
#
# Pixels are spread over their cells (chapter 4), so that x is a vector of real numbers; bits per dimension are upper
# bounds, by importance sampling. The purely autoregressive model is the simplest one: by MADE, a single Gaussian for
# each pixel given those before it. It is no mixture, and no PixelCNN. The data are small images.

# %%
import re

import numpy as np

from minivi import evaluation, nn, optim, plots
from minivi.distributions import Normal
from minivi.experiments import experiment
from minivi.experiments.measuring import Dequantised, seconds_in_turn
from minivi.experiments.results import gain_over_seeds, mean_and_error
from minivi.flows import FlowDensity, FlowPosterior, InverseAutoregressive
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi_chapters.studies.ch05_flows._shared import make_flow

PARTS = {
    "Gaussians alone": (), "flow: posterior": ("posterior",), "flow: posterior, prior": ("posterior", "prior"),
    "flow: all three": ("posterior", "prior", "decoder"),
}  # fmt: skip
PURE, ALL, NAIVE = "autoregressive Gaussian", "flow: all three", "autoregressive Gaussian, naively"
COMMON = {"data": "digits", "split": "1200/300/297", "levels": 17, "batch": 50, "step_size": 2e-3, "context": 32}


def standard(size):
    """N(0, I)."""
    return Normal(np.zeros(size, "float32"), np.zeros(size, "float32"))


class FlowVAE(nn.Module):
    """A VAE with Real NVP in some of its three ``parts``."""

    def __init__(self, size, s, parts, rng):
        self.pixels, self.latents, self.context = size, s.latents, s.context
        self.encoder = nn.MLP((size, *s.hidden, 2 * s.latents + s.context), rng)
        self.decoder = nn.MLP((s.latents, *s.hidden, 2 * size + s.context), rng)
        flow = lambda part, d, context: (
            make_flow("Real NVP", d, s.depth, s.width, rng, context) if part in parts else None
        )
        self.flow, self.output = flow("posterior", s.latents, s.context), flow("decoder", size, s.context)
        prior = flow("prior", s.latents, 0)
        self.prior = FlowDensity(prior, standard(s.latents)) if prior else standard(s.latents)

    @property
    def dtype(self):
        """Of the parameters."""
        return self.encoder.layers[0].weight.dtype

    def log_weights(self, x, rng, samples=1):
        """log p(x, z_k) - log q(z_k | x) in nats, (K, B)."""
        heads, j, d = self.encoder(x), self.latents, self.pixels
        q = Normal(heads[..., :j], 0.5 * heads[..., j : 2 * j])
        if self.flow is not None:
            q = FlowPosterior(q, self.flow, heads[..., 2 * j :])
        z, log_q = q.rsample_with_log_prob(rng.standard_normal((samples, len(x), j), dtype=self.dtype))
        out, log_det, y = self.decoder(z), 0.0, x
        if self.output is not None:
            y, log_det = self.output.forward(np.broadcast_to(x, (samples, *x.shape)), out[..., 2 * d :])
        return Normal(out[..., :d], 0.5 * out[..., d : 2 * d]).log_prob(y) + log_det + self.prior.log_prob(z) - log_q

    def sample(self, count, rng):
        """(count, D)."""
        with no_grad():
            prior = self.prior
            z = prior.sample(count, rng) if isinstance(prior, FlowDensity) else prior.sample(rng, (count,))
            out, d = self.decoder(z), self.pixels
            y = Normal(out[..., :d], 0.5 * out[..., d : 2 * d]).sample(rng)
            return y if self.output is None else np.asarray(self.output.inverse(y, out[..., 2 * d :]))


@experiment(
    "combined",
    title="flows as posterior, prior and decoder of one VAE",
    mirrors="thesis chapter 8",
    budgets={
        "quick": COMMON | {"hidden": [100], "latents": 8, "depth": 2, "width": 32, "epochs": 15, "seeds": 2,
                           "samples": 100, "rounds": 5},
        "laptop": COMMON | {"hidden": [200], "latents": 16, "depth": 4, "width": 64, "epochs": 60, "seeds": 2,
                            "samples": 200, "rounds": 9},
        "paper": COMMON | {"hidden": [500], "latents": 32, "depth": 8, "width": 256, "epochs": 1000, "seeds": 5,
                           "samples": 5000, "rounds": 9},
    },
    minutes={"quick": 0.4, "laptop": 0.39, "paper": 60 * 12},
)  # fmt: skip
def combined(run):
    """Train each; bits per dimension of test images, and the CPU time of drawing a hundred."""
    s, images = run.settings, run.images()
    coding, size = Dequantised(images.train, s.levels, seed=110), images.train.shape[1]
    test, valid = coding(images.test, Generator(111)), coding(images.validation, Generator(112))
    half = s.epochs * -(-len(images.train) // s.batch) / 2
    bits, models = {}, {}
    for name in (*PARTS, PURE):
        bits[name] = []
        for seed in range(run.seed, run.seed + s.seeds):

            def start(name=name, seed=seed):
                rng = Generator([seed, 113])
                if name == PURE:
                    made = nn.MADE(size, s.hidden, rng, outputs=2)
                    model = FlowDensity(InverseAutoregressive(made, "whitening"), standard(size))
                    loss = lambda x, rng: -model.log_prob(x).mean()
                else:
                    model = FlowVAE(size, s, PARTS[name], rng)
                    loss = lambda x, rng: -model.log_weights(x, rng).mean()
                return model, loss, optim.Adam(model.parameters(), lambda t: s.step_size * min(1.0, 2.0 - t / half))

            def log_p(model, x, samples, name=name):
                if name == PURE:
                    return evaluation.log_prob(model, x)
                return evaluation.log_likelihood(model, x, Generator(114), samples, False).values

            file = f"combined_{s.data}_{'_'.join(re.findall('[a-zA-Z]+', name))}_{seed}"
            model, *_ = run.train(
                file, start, images.train, epochs=s.epochs, batch_size=s.batch,
                rng=Generator([seed, 115]), prepare=coding, monitor="validation",
                evaluate=lambda model, epoch, log_p=log_p: {"validation": float(log_p(model, valid, 5).mean())},
            )  # fmt: skip
            bits[name].append(coding.bits(log_p(model, test, s.samples), test))
            models.setdefault(name, model)
    made = models[PURE].flow.network
    naive = lambda count, rng: made.from_noise(rng.standard_normal((count, size), dtype=np.float32), naive=True)
    draw = {ALL: models[ALL].sample, PURE: made.sample, NAIVE: naive}
    jobs = {name: lambda f=f: [f(100, Generator(116)) for _ in range(10)] for name, f in draw.items()}
    seconds = {name: each / 10 for name, each in seconds_in_turn(jobs, s.rounds).items()}
    less = lambda other: gain_over_seeds(bits[ALL], bits[other])
    return {
        "bits": {name: [np.mean(each), np.mean([mean_and_error(b)[1] for b in each])] for name, each in bits.items()},
        "by_seed": {name: [b.mean() for b in each] for name, each in bits.items()},
        "less": {name: less(name) for name in bits if name != ALL},
        "drawing": seconds,
    }


@combined.table
def _(n, table):
    s = n.settings
    for name, (mean, error) in n.bits.items():
        note = f"+- {error:.3f}, {s.epochs} epochs, seeds {', '.join(f'{b:.3f}' for b in n.by_seed[name])}"
        table.row(name, mean, unit="bits/dim", note=note)
    for name, values in n.drawing.items():
        table.row(f"{name}, drawing an image", 1e4 * np.median(values), unit="CPU us", note="a hundred at a time")
    simple = table.says(
        "thesis 8",
        "Application of such transformations in the VAE framework can potentially lead to relatively simple VAEs with "
        "a combination of powerful posteriors, priors and decoders.",
        seeds=s.seeds,
    )
    rival = table.says(
        "thesis 8",
        "Such architectures can potentially rival or surpass purely autoregressive architectures [van den Oord et al., "
        "2016a], while allowing much faster synthesis.",
        seeds=s.seeds,
    )
    for name in list(PARTS)[:-1]:
        less, error = n.less[name]
        simple(less, "<=", 0.0, 0.0, f"{ALL}: bits less those of {name}", standard_error=error)
    less, error = n.less[PURE]
    rival(less, "<=", 0.0, 0.0, f"{ALL}: bits less the autoregressive Gaussian's", standard_error=error)
    for name in (PURE, NAIVE):
        ratio, error = mean_and_error(np.array(n.drawing[name]) / n.drawing[ALL])
        rival(ratio, ">=", 1.0, 0.0, f"time of synthesis, {name}, over theirs", standard_error=error)


@combined.figure()
def _(n):
    axes = plots.figure(6.0, 2.8).add_subplot()
    names = list(n.bits)
    for i, name in enumerate(names):
        axes.plot(n.by_seed[name], [i] * len(n.by_seed[name]), "o", color="black", markersize=5)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.grid(True, axis="x", linewidth=0.3)
    plots.panel(
        axes, f"{n.settings.data}: Real NVP in the parts of a VAE; a dot for each seed", "bits per dimension", ""
    )
    return axes.figure
