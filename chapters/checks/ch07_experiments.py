"""Checks of chapter 7, experiments: where Adam's parts pay (thesis sections 7.4.3, 7.5.1 and 7.5.2)."""

import numpy as np

from minivi import optim
from minivi.experiments import Claim, check
from minivi.models import Classifier
from minivi.random import Generator
from minivi.tensor import Parameter


@check("section 7.4.3", "uncorrected: the first step is (1 - beta1) / sqrt(1 - beta2) step sizes; beta1 = 0 is RMSProp")
def uncorrected_steps():
    claims, noise = [], np.random.default_rng(0).standard_normal((50, 7))
    for beta1, beta2, factor in ((0.9, 0.9999, 10.0), (0.0, 0.9999, 100.0), (0.9, 0.99, 1.0)):
        p = Parameter(np.zeros(1))
        optim.Adam([p], 0.25, beta1=beta1, beta2=beta2, eps=1e-30, bias_correction=False).step([np.array([-3.0])])
        label = f"first step of gradient -3 with beta1 {beta1:g}, beta2 {beta2:g}, in step sizes"
        claims.append(Claim(p.data[0] / 0.25, "=", factor, 1e-9, label))
    ours, theirs = Parameter(np.zeros(7)), Parameter(np.zeros(7))
    adam = optim.Adam([ours], 0.1, beta1=0.0, beta2=0.99, eps=1e-30, bias_correction=False)
    rmsprop = optim.RMSProp([theirs], 0.1, decay=0.99, eps=1e-30)
    for g in noise:
        adam.step([g])
        rmsprop.step([g])
    claims.append(Claim(np.abs(ours.data - theirs.data).max(), "=", 0.0, 1e-12, "Adam's and RMSProp's path"))
    return claims


@check("section 7.5.1", "the loss of the classifiers is minus the logarithm of the softmax, written out in NumPy")
def loss_of_classifiers():
    """Logistic regression on six data of three inputs and four classes."""
    model, rng = Classifier(3, (), 4, rng=Generator(1), dtype="float64"), np.random.default_rng(2)
    x, labels = rng.standard_normal((6, 3)), rng.integers(0, 4, 6)
    (layer,) = model.network.layers
    logits = x @ layer.weight.data + layer.bias.data
    expected = logits[np.arange(6), labels] - np.log(np.exp(logits).sum(axis=1))
    return Claim(np.abs(np.asarray(model.log_prob(x, labels)) - expected).max(), "=", 0.0, 1e-12)
