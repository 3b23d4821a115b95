"""Checks of tighter bounds: the models' sizes, and what the report's own table says of size and method."""

import numpy as np

from minivi import bounds
from minivi.experiments import Claim, check
from minivi.models import VAE
from minivi.random import Generator
from minivi_chapters.studies.report_tighter_bounds._shared import training
from minivi_chapters.studies.report_tighter_bounds.methods import TABLE_1

# %%


@check(
    "tighter-bounds report section 4.1", "the two models have 425,284 and 973,624 parameters, more than twice as many"
)
def parameters():
    """Of 784-200-200-50 and 784-400-400-20, by the library and by hand."""
    claims, sizes = [], []
    for hidden, latents, published in ((200, 50, 425_284), (400, 20, 973_624)):
        vae = VAE(784, [hidden, hidden], latents, rng=Generator(0))
        sizes.append(sum(p.data.size for p in vae.parameters()))
        square = hidden * hidden + hidden
        by_hand = 785 * hidden + square + 2 * (hidden + 1) * latents  # the encoder has two outputs
        by_hand += (latents + 1) * hidden + square + (hidden + 1) * 784
        claims += [
            Claim(sizes[-1], "=", n, 0.0, f"{hidden} hidden units, {latents} latents") for n in (published, by_hand)
        ]
    return [*claims, Claim(sizes[1] / sizes[0], ">=", 2.0, 0.0, "one over the other")]


@check("tighter-bounds report section 5, slip", "by Table 1 itself the larger model gains less than methods are apart")
def gains_of_table_1():
    """IWAE-64 of both halves of the table; the text says that the size gains more than the method."""
    small, large = (np.array([row[0] for row in TABLE_1[latents].values()]) for latents in (50, 20))
    return [
        Claim(np.max(large - small), "<=", np.ptp(small), 0.0, "the largest gain, and best less worst smaller model"),
        Claim(np.mean(large - small), "<=", np.ptp(large), 0.0, "the mean gain, and best less worst larger model"),
    ]


@check("tighter-bounds report section 4, text", "what is minimised is minus the bound: MIWAE of 16 samples by hand")
def minimised():
    """Four groups of four, of two images; the same noise both times."""
    vae = VAE(6, [5], 2, rng=Generator(1), dtype="float64")
    x = (Generator(2).random((2, 6)) < 0.5).astype(float)
    loss, _ = training(vae, "MIWAE", 16)
    log_w = np.asarray(vae.log_weights(x, Generator(3), 16)).reshape(4, 4, 2)
    by_hand = np.mean(np.log(np.mean(np.exp(log_w), axis=1)), axis=0)
    return [
        Claim(loss(x, Generator(3)).item(), "=", -by_hand.mean(), 1e-10, "the loss, and minus the bound"),
        Claim(np.asarray(bounds.miwae(log_w.reshape(16, 2), 4))[1], "=", by_hand[1], 1e-10, "of one image"),
    ]
