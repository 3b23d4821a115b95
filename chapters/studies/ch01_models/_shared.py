"""Chapter 1, probabilistic models and their learning (thesis sections 1.2-1.7, appendix 9.1-9.3).

A model that sees all its variables is trained by climbing its log-probability, a minibatch at a time. What goes wrong
with few data, and what mends it? And why does the same recipe stop at the first latent variable?
"""

# %% [markdown]
# Fully observed: a network gives the parameters of a categorical distribution (eq. 1.4, 1.5), and the average
# log-probability of a minibatch is an unbiased estimate of that of the data (eq. 1.11, 1.12).
#
#     p(y | x) = Categorical(y; NeuralNet(x))          1/N log p(D)  ~  1/M sum over a minibatch of log p(y | x)
#
# With a latent variable (eq. 1.13-1.18) there is an integral in the way:
#
#     p(z) = N(0, I)      p(x | z) = Bernoulli(x; DecoderNet(z))      p(x) = integral of p(z) p(x | z) over z

# %%
from minivi import evaluation, nn, optim
from minivi.models import VAE
from minivi.random import Generator

ADAM = {"optimizer": "adam", "step_size": 1e-3, "batch": 100}
# The text's settings of section 2.11; its step size is one of three there
ADAGRAD = {"optimizer": "adagrad", "step_size": 0.02, "batch": 100}
LIMIT = 8.0  # of the grid: within +-5 some images' posteriors are cut off


def quadrature(vae, x, points, limit=LIMIT, progress=False):
    """log p(x) of each datum by the grid."""
    return evaluation.log_likelihood_by_quadrature(vae, x, points, limit, progress)


def new_vae(s, pixels, latents, seed):
    """One hidden layer on either side, in the settings' initial weights."""
    init = nn.glorot if s.optimizer == "adam" else nn.normal(0.1)
    return VAE(pixels, (s.hidden,), latents, rng=Generator([seed, latents]), init=init)


def optimizer_for(module, s, count):
    """Adam, or AdaGrad with the weights' prior N(0, I), which counts once for all ``count`` data (eq. 9.5)."""
    if s.optimizer == "adam":
        return optim.Adam(module.parameters(), s.step_size)
    return optim.AdaGrad(module.parameters(), s.step_size, weight_decay=1.0 / count)
