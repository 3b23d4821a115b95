"""Chapter 2, the marginal likelihood (thesis sections 2.7, 2.8, 2.11.2, appendix 2.B).

What does a latent-variable model give to data, log p(x), and which training algorithm raises it fastest? The bound says
too little, and Monte Carlo EM has none. Three answers: integrate over three latents, sample, or read it off as a KL.
"""

# %% [markdown]
# The model is that of section 2.11, with few enough latents to integrate (eq. 1.13):
#
#     p(z) = N(0, I)      p(x | z) = Bernoulli(x; DecoderNet(z))      log p(x) = log of the integral of p(z) p(x | z)
#
# By samples from the encoder (eq. 2.57), and as divergences of the data q_D(x) from the model (eq. 2.62, 2.67):
#
#     log p(x) ~ log 1/L sum_l p(x, z_l) / q(z_l | x)
#     KL(q_D(x) q(z | x) || p(x, z)) = KL(q_D(x) || p(x)) + E_qD KL(q(z | x) || p(z | x))  >=  KL(q_D(x) || p(x))

# %%
from minivi import nn, optim
from minivi.models import VAE
from minivi.random import Generator

# %% [markdown]
# ## Settings
#
# `paper` has the text's AdaGrad, its step size the best of three in the first iterations, weights from N(0, 0.01) and
# their prior N(0, I); the smaller budgets use Adam and Glorot's weights and see fewer points. "A training point" is one
# fixed image here, since Monte Carlo EM keeps a Markov chain for each: pixels are drawn once, not afresh each epoch.

# %%
ADAM = {"optimizer": "adam", "step_sizes": [1e-3], "hidden": 100, "batch": 100}
ADAGRAD = {"optimizer": "adagrad", "step_sizes": [0.01, 0.02, 0.1], "hidden": 100, "batch": 100}
DIGITS = {"data": "digits", "split": "1500/297", **ADAM}
MNIST = {"data": "mnist", "split": "60000/10000", **ADAM}
PAPER = {"data": "mnist", "split": "50000/10000/10000", **ADAGRAD}


def new_vae(s, pixels, latents, seed):
    """One hidden layer on either side, in the settings' initial weights."""
    init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
    return VAE(pixels, (s.hidden,), latents, rng=Generator([seed, latents]), init=init)


def optimizer_for(module, s, step_size, count):
    """Adam, or AdaGrad with the weights' prior N(0, I), which counts once for all ``count`` data."""
    if s.optimizer == "adam":
        return optim.Adam(module.parameters(), step_size)
    return optim.AdaGrad(module.parameters(), step_size, weight_decay=1.0 / count)
