"""The generative semi-supervised model M2 of thesis chapter 3: a class y that may be missing beside a latent z.

    p(y) = Cat(pi),  p(z) = N(0, I),  p(x | y, z) by a network                                              (eq. 3.2)
    q(y | x) = Cat(pi(x)),  q(z | y, x) = N(mu(y, x), diag(sigma^2(y, x)))                             (eq. 3.4, 3.5)

Section 3.3.1 first writes q(z, y | x) = q(z | x) q(y | x); what eq. 3.4 and the bounds have is q(z | y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivi import ops, validate
from minivi.distributions import Bernoulli, Categorical, Normal
from minivi.kernels.shapes import take
from minivi.nn import ACTIVATIONS, MLP, Linear, Module, normal
from minivi.protocols import Rng
from minivi.tensor import Parameter, Tensor, no_grad


class SemiSupervisedVAE(Module):
    """M2: a VAE whose encoder and decoder also see the class, and a classifier q(y | x).

    With all labels given it is a conditional VAE, p(x | y).

    Args:
        pixels: D, the length of a datum.
        classes: C.
        hidden: sizes of the hidden layers of encoder and classifier, at least one; the decoder mirrors them.
        latents: J, the length of z.
        likelihood: "bernoulli", or "gaussian" with a mean and a variance for each number, for features that may be of
            any sign.
        activation: of the hidden layers.
        prior: p(y), shape (C,); None is uniform.
        rng: generator of the initial weights.
        init: their initialiser, see :mod:`minivi.nn`; None is N(0, 0.001^2), as in thesis section 3.4.4.
        output_bias: initial bias of the decoder's logits or means, a number or shape (D,).
        dtype: "float32" or "float64".

    Raises:
        ValueError: a size below 1, fewer than two classes, no hidden layer; an unknown likelihood or activation; a
            prior of another length, or which is none; no generator.

    Example:
        >>> from minivi import Generator
        >>> model = SemiSupervisedVAE(pixels=64, classes=10, hidden=(30,), latents=5, rng=Generator(0))
        >>> x, y = np.zeros((20, 64), "float32"), np.arange(20) % 10
        >>> model.labelled_bound(x, y, Generator(1)).shape, model.unlabelled_bound(x, Generator(1)).shape
        ((20,), (20,))
    """

    def __init__(
        self,
        pixels: int,
        classes: int = 10,
        hidden: Sequence[int] = (500,),
        latents: int = 50,
        likelihood: str = "bernoulli",
        activation: str = "softplus",
        *,
        prior: Any = None,
        rng: Rng,
        init: Callable | None = None,
        output_bias: Any = 0.0,
        dtype: Any = "float32",
    ):
        validate.count(pixels, "SemiSupervisedVAE: pixels")
        validate.count(classes, "SemiSupervisedVAE: classes", 2)
        validate.sizes(hidden, "SemiSupervisedVAE: hidden, at least one layer,", 1)
        validate.count(latents, "SemiSupervisedVAE: latents")
        validate.one_of(likelihood, "SemiSupervisedVAE: likelihood", ("bernoulli", "gaussian"))
        validate.one_of(activation, "SemiSupervisedVAE: activation", ACTIVATIONS)
        prior = np.full(classes, 1.0 / classes) if prior is None else np.asarray(prior, np.float64)
        if prior.shape != (classes,) or not (np.all(prior > 0) and np.isclose(prior.sum(), 1.0)):
            raise ValueError(f"SemiSupervisedVAE: prior; pass {classes} positive probabilities whose sum is 1, or None")
        self.pixels, self.classes, self.latents = pixels, classes, latents
        self.likelihood, self.activation = likelihood, activation
        self.log_prior, init = np.log(prior).astype(dtype), init or normal(1e-3)
        options = {"activation": activation, "init": init, "dtype": dtype}
        self.classifier = MLP((pixels, *hidden, classes), rng, **options)
        # The encoder's first layer is a sum of two linear maps: that of x serves all classes.
        self.encoder_x = Linear(pixels, hidden[0], rng, init=init, dtype=dtype)
        self.encoder_y = Parameter(init(rng, (classes, hidden[0])), dtype=dtype)
        self.encoder = MLP((*hidden, 2 * latents), rng, **options)
        if likelihood == "gaussian":
            output_bias = np.concatenate([np.broadcast_to(output_bias, pixels), np.zeros(pixels)])
        outputs = pixels if likelihood == "bernoulli" else 2 * pixels
        self.decoder = MLP((latents + classes, *reversed(hidden), outputs), rng, out_bias=output_bias, **options)

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters, hence of data and noise."""
        return self.encoder_y.dtype

    def classify(self, x: Any) -> Categorical:
        """q(y | x), eq. 3.5: ``x`` (B, D) -> logits (B, C)."""
        validate.rows(x, "SemiSupervisedVAE: x", self.pixels)
        return Categorical(self.classifier(x))  # eq. 3.5

    def encode(self, x: Any, y: np.ndarray) -> Normal:
        """q(z | y, x), eq. 3.4: ``x`` (B, D) and labels (B,) -> (B, J)."""
        return self._posterior(self.encoder_x(x), np.arange(len(x)), self._labels(y, len(x)))

    def decode(self, z: Any, y: np.ndarray) -> Bernoulli | Normal:
        """p(x | y, z), eq. 3.2: ``z`` (B, J) and labels (B,) -> (B, D)."""
        return self._likelihood(z, self._labels(y, len(z)))

    def _posterior(self, shared, rows, y):
        """q(z | y, x) of the data ``rows`` with classes ``y``, (R,) both, from the first layer's part of x (B, H)."""
        hidden = ops.row_pairs(shared, self.encoder_y, rows, y)
        heads = self.encoder(ACTIVATIONS[self.activation](hidden))
        return Normal(heads[..., : self.latents], 0.5 * heads[..., self.latents :])  # eq. 3.4

    def _likelihood(self, z, y):
        one_hot = take(np.eye(self.classes, dtype=self.dtype), y)
        heads = self.decoder(ops.concatenate([z, one_hot], axis=-1))
        if self.likelihood == "bernoulli":
            return Bernoulli(heads)  # eq. 3.2
        return Normal(heads[..., : self.pixels], 0.5 * heads[..., self.pixels :])

    def _labels(self, y, count):
        y = np.asanyarray(y)
        if y.dtype.kind not in "iu" or y.ndim != 1 or (y.size and not (0 <= y.min() and y.max() < self.classes)):
            raise ValueError(f"SemiSupervisedVAE: y; pass integers (B,) from 0 to {self.classes - 1}")
        if len(y) != count:
            raise ValueError(f"SemiSupervisedVAE: {count} data and {len(y)} labels; pass as many")
        return y.astype(np.int64)

    def _every_class(self, count):
        """Numbers of ``count`` data and classes, class after class, (C B,) each."""
        return np.tile(np.arange(count), self.classes), np.repeat(np.arange(self.classes), count)

    def _bounds(self, shared, x, rows, y, rng, eps=None):
        """L(x, y) of the data ``rows`` with classes ``y``, (R,); ``shared`` is the first layer's part of x."""
        q = self._posterior(shared, rows, y)
        if eps is None:
            validate.generator(rng, "SemiSupervisedVAE: rng")
            eps = rng.standard_normal(q.shape, dtype=self.dtype)
        elif np.shape(eps) != q.shape:
            raise ValueError(f"SemiSupervisedVAE: eps for {np.shape(eps)}; pass (B, J), or (C, B, J) for all classes")
        log_px_yz = self._likelihood(q.rsample(eps), y).log_prob(x[rows])
        return log_px_yz + take(self.log_prior, y) - q.kl()  # eq. 3.7

    def labelled_bound(self, x: np.ndarray, y: np.ndarray, rng: Rng | None = None, *, eps: Any = None) -> Tensor:
        """L(x, y) <= log p(x, y), (B,), in nats, by one sample of z (eq. 3.7); the divergence from p(z) is exact.

        Args:
            x: data (B, D).
            y: labels (B,), integers in [0, C).
            rng: generator of the noise; or
            eps: the noise itself, (B, J), for checks.

        Raises:
            ValueError: x or y of another shape or range; no generator.
        """
        validate.rows(x, "SemiSupervisedVAE: x", self.pixels)
        return self._bounds(self.encoder_x(x), x, np.arange(len(x)), self._labels(y, len(x)), rng, eps)

    def class_bounds(self, x: np.ndarray, rng: Rng | None = None, *, eps: Any = None) -> Tensor:
        """L(x, y) of each class y, (C, B), in nats; ``eps`` (C, B, J)."""
        validate.rows(x, "SemiSupervisedVAE: x", self.pixels)
        eps = eps if eps is None else np.reshape(eps, (-1, self.latents))
        bounds = self._bounds(self.encoder_x(x), x, *self._every_class(len(x)), rng, eps)
        return ops.reshape(bounds, shape=(self.classes, -1))

    def _sum_classes(self, bounds, log_q):
        """U from L of each class (C, B) and log q(y | x) (B, C)."""
        return ops.sum(ops.exp(log_q) * (ops.transpose(bounds) - log_q), axis=-1)  # eq. 3.8

    def unlabelled_bound(self, x: np.ndarray, rng: Rng | None = None, *, eps: Any = None) -> Tensor:
        """U(x) <= log p(x), (B,), in nats: the class is summed out exactly (eq. 3.8); ``eps`` (C, B, J).

        The first line of eq. 3.8 takes the expectation over y alone; it is over z too.
        """
        return self._sum_classes(self.class_bounds(x, rng, eps=eps), self.classify(x).log_probs)

    def objective(
        self,
        x: np.ndarray,
        y: np.ndarray,
        unlabelled: np.ndarray | None,
        rng: Rng | None,
        *,
        counts: tuple[float, float],
        alpha: float = 0.1,
        eps: Any = None,
    ) -> Tensor:
        """J^alpha of the whole data set, estimated by a minibatch and divided by N: nats a datum, to be maximised.

            1/N (N_l mean L(x, y) + N_u mean U(x) + alpha N mean log q(y | x))                      (eq. 3.9, 3.10)

        Eq. 3.10 prints a minus before log q, which would train the classifier to be wrong; and "alpha = 0.1 N": with
        the expectation over the labelled data each of them has the weight 0.1 N / N_l.

        Args:
            x, y: labelled data (B, D) and labels (B,).
            unlabelled: data (B', D); None if all are labelled.
            rng: generator of the noise; or
            eps: the noise itself, (B + C B', J), for checks: of labelled data, then class after class of the others.
            counts: N_l and N_u, how many labelled and unlabelled data there are in all, or their shares.
            alpha: weight of the classifier's term, a datum.
        """
        validate.number(alpha, "SemiSupervisedVAE.objective: alpha", 0)
        validate.rows(x, "SemiSupervisedVAE: x", self.pixels)
        y, many, (labelled, rest) = self._labels(y, len(x)), len(x), counts
        if unlabelled is None:
            log_q, value = self.classify(x).log_probs, ops.mean(self.labelled_bound(x, y, rng, eps=eps))
        else:  # one pass over labelled data and every class of the others
            both = np.concatenate([x, unlabelled])
            log_q = self.classify(both).log_probs
            others, every = self._every_class(len(unlabelled))
            rows, classes = np.concatenate([np.arange(many), many + others]), np.concatenate([y, every])
            bounds = self._bounds(self.encoder_x(both), both, rows, classes, rng, eps)
            marginal = self._sum_classes(ops.reshape(bounds[many:], shape=(self.classes, -1)), log_q[many:])
            value = (labelled * ops.mean(bounds[:many]) + rest * ops.mean(marginal)) / (labelled + rest)  # eq. 3.9
        return value + alpha / many * ops.sum(log_q[np.arange(many), y])  # eq. 3.10

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """q(y | x), (B, C): the classifier that eq. 3.10 trains."""
        with no_grad():
            return np.exp(np.asarray(self.classify(x).log_probs))

    def log_joint(self, x: np.ndarray, rng: Rng, samples: int = 100) -> np.ndarray:
        """log p(x, y) of each class, (B, C), in nats, by importance sampling with q(z | y, x) (section 3.2.2).

        Its softmax is p(y | x) of the generative model.
        """
        validate.count(samples, "SemiSupervisedVAE.log_joint: samples")
        validate.generator(rng, "SemiSupervisedVAE.log_joint: rng")
        validate.rows(x, "SemiSupervisedVAE: x", self.pixels)
        total, zero = -np.inf, np.zeros(self.latents, self.dtype)
        with no_grad():
            rows, y = self._every_class(len(x))
            q, tiled = self._posterior(self.encoder_x(x), rows, y), x[rows]
            for _ in range(samples):
                z, log_q = q.rsample_with_log_prob(rng.standard_normal(q.shape, dtype=self.dtype))
                log_w = self._likelihood(z, y).log_prob(tiled) + Normal(zero, zero).log_prob(z) - log_q
                total = np.logaddexp(total, np.asarray(log_w, np.float64))
        return (total - np.log(samples) + self.log_prior[y]).reshape(self.classes, len(x)).T

    def mean_image(self, z: Any, y: Any) -> np.ndarray:
        """The mean of p(x | y, z): (B, J) and (B,) -> (B, D)."""
        with no_grad():
            p = self.decode(np.asarray(z, self.dtype), y)
            return np.array(p.mean if self.likelihood == "bernoulli" else p.mu)

    def sample(self, y: np.ndarray, rng: Rng) -> np.ndarray:
        """Mean images of z ~ N(0, I) for the classes ``y`` (B,): draws of the conditional p(x | y), (B, D)."""
        validate.generator(rng, "SemiSupervisedVAE.sample: rng")
        return self.mean_image(rng.standard_normal((len(y), self.latents), dtype=self.dtype), y)
