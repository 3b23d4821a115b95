"""Discrete and continuous latent variables (section 1.6.1)."""

# %% [markdown]
# ## Finite and infinite mixtures (1.6.1)
#
# With a discrete z and Gaussian p(x | z), p(x) is a mixture of Gaussians (the text prints q(z | x)), whose likelihood
# is exact: scikit-learn climbs it by EM. With a continuous z it is a VAE, here with a Gaussian decoder; its bound is
# the least that its log p(x) can be. Grey levels of the digits are spread by noise, or a density would have no limit;
# both models have the same least variance.

# %%
import numpy as np
from sklearn.mixture import GaussianMixture

from minivi import evaluation, nn, ops, optim, plots
from minivi.distributions import Normal
from minivi.experiments import experiment
from minivi.experiments.measuring import dequantize
from minivi.experiments.results import mean_and_error
from minivi.models import VAE
from minivi.random import Generator

MIXTURES = {
    "quick": {
        "data": "digits", "split": "1500/297", "components": [1, 5, 20, 80], "latents": 5, "hidden": 50,
        "epochs": 100,
    },
    "laptop": {
        "data": "frey", "split": "1765/200", "components": [1, 5, 20, 40, 80, 160, 320], "latents": 10,
        "hidden": 200, "epochs": 300,
    },
    "paper": {
        "data": "frey", "split": "1765/200", "components": [1, 5, 20, 40, 80, 160, 320], "latents": 10,
        "hidden": 200, "epochs": 5000,
    },
}  # fmt: skip
FLOOR = 1e-4  # added to each variance, as scikit-learn's EM needs: 0.01 of the grey scale


class FlooredVAE(VAE):
    """A VAE whose Gaussian decoder has no variance below ``FLOOR``."""

    def decode(self, z):
        """p(x | z): ``z`` (..., J)."""
        p = super().decode(z)
        return Normal(p.mu, 0.5 * ops.log(ops.exp(2.0 * p.log_sigma) + FLOOR))


@experiment(
    "mixtures",
    title="mixtures of Gaussians by number of components, against a VAE",
    mirrors="thesis section 1.6.1",
    budgets=MIXTURES,
    minutes={"quick": 0.2, "laptop": 0.49, "paper": 15},
)
def mixtures(run):
    """Test log p(x) of each mixture, the VAE's bound, and how many parameters they have."""
    s, images = run.settings, run.images()
    train, test = images.train, images.test
    if s.data == "digits":
        train, test = (dequantize(x, Generator(81)) for x in (train, test))
    values, sizes = {}, {}
    for count in s.components:
        mixture = GaussianMixture(count, covariance_type="diag", reg_covar=FLOOR, random_state=run.seed, max_iter=200)
        values[str(count)] = mixture.fit(train.astype(float)).score_samples(test.astype(float))
        sizes[str(count)] = mixture.means_.size + mixture.covariances_.size + count - 1
    pixels = train.shape[1]
    vae = FlooredVAE(pixels, (s.hidden,), s.latents, "gaussian", rng=Generator([run.seed, 1]), init=nn.glorot)
    run.fit(
        f"mixtures_{s.data}_vae", vae, lambda x, rng: -vae.elbo(x, rng).mean(), optim.Adam(vae.parameters(), 1e-3),
        train, epochs=s.epochs, batch_size=100, rng=Generator([run.seed, 2]),
    )  # fmt: skip
    bound = evaluation.elbo(vae, test, Generator(82), samples=20).values
    best = max(values, key=lambda count: values[count].mean())
    return {
        "mixtures": {count: mean_and_error(each) for count, each in values.items()}, "sizes": sizes, "best": best,
        "vae": mean_and_error(bound), "vae_size": sum(p.data.size for p in vae.decoder.parameters()),
        "gain": mean_and_error(bound - values[best]), "count": len(test),
    }  # fmt: skip


@mixtures.table
def _(n, table):
    for count, (mean, error) in n.mixtures.items():
        note = f"{n.sizes[count]:,} parameters; {n.count} test images, standard error {error:.1f}"
        table.row(f"{count} components: log p(x)", mean, note=note)
    mean, error = n.vae
    note = f"{n.vae_size:,} parameters of the decoder; standard error {error:.1f}"
    table.row(f"VAE of {n.settings.latents} latents: bound", mean, note=note)
    gain, error = n.gain
    says = table.says(
        "thesis 1.6.1",
        "For continuous z ..., p(x) can be seen as an infinite mixture, which are potentially more powerful than "
        "discrete mixtures.",
        seeds=1,
    )
    label = f"the VAE's bound less log p(x) of the best mixture, {n.best} components"
    says(gain, ">=", 0.0, 0.0, label, standard_error=error)


@mixtures.figure()
def _(n):
    axes, counts = plots.figure(6.0, 3.8).add_subplot(), list(map(int, n.mixtures))
    means, errors = np.array(list(n.mixtures.values())).T
    label = "mixture of Gaussians (bars: two standard errors over images)"
    axes.errorbar(counts, means, 2 * errors, capsize=3, label=label, **plots.style(0))
    axes.axhline(n.vae[0], label=f"VAE, {n.settings.latents} latents: bound", **(plots.style(1) | {"marker": ""}))
    title = f"Discrete and continuous z, {n.settings.data}"
    plots.panel(axes, title, "components", "log p(x), nats per test image", log="x").legend(fontsize=8)
    return axes.figure
