"""Semi-supervised classification by generative models (thesis chapter 3): features by M1, M2 on data or on features.

    features = Features(vae, x)                              # M1: q(z | x) of the latents that the VAE uses
    loss = minibatch_loss(model, x, y, counts=(100, 49_900)) # M2: minus eq. 3.10, for minivi.training.fit

:class:`SemiSupervisedClassifier` is all of it with the habits of scikit-learn, and is saved and loaded:

    SemiSupervisedClassifier(pixels=True).fit(x, y).save("digits.safetensors")
    load("digits.safetensors").predict(x)                    # or: minivi predict digits.safetensors x.npy
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from minivi import data, validate
from minivi.files import TrainingError, load_arrays, save_arrays
from minivi.kernels.shapes import take
from minivi.models import VAE, SemiSupervisedVAE
from minivi.nn import glorot, logit_of_mean
from minivi.optim import Adam
from minivi.protocols import Rng
from minivi.random import Generator
from minivi.tensor import Tensor, no_grad
from minivi.training import fit

KIND = "SemiSupervisedClassifier"


class Features:
    """M1 as a maker of features: the posterior q(z | x) of a trained VAE, of those latents alone that it uses.

    The text says nothing about the others. The author's code drops latents whose posterior means hardly move, by a
    standard deviation of at most 0.1 over 1,000 data: their samples are noise, and M2 would have to explain it.

    Args:
        vae: trained, with a factorised Gaussian posterior.
        x: data (N, D) to judge the latents by.
        least: the smallest standard deviation of the means of a latent that is kept.
        kept: numbers of the latents, if they are known, instead of ``x``.

    Attributes:
        kept: their numbers.

    Raises:
        ValueError: no latent moves that much.
    """

    def __init__(self, vae: VAE, x: np.ndarray | None = None, least: float = 0.1, *, kept: np.ndarray | None = None):
        self.vae, self.kept = vae, np.arange(vae.latents) if kept is None else kept
        if kept is None:
            self.kept = np.flatnonzero(self.posterior(x)[0].std(axis=0) > least)
        if not len(self.kept):
            raise ValueError(f"Features: no latent's mean has a standard deviation above {least}; train the VAE longer")

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """mu and log sigma of q(z | x), each (N, J'), of the latents kept."""
        with no_grad():
            q = [self.vae.encode(x[i : i + 5000]) for i in range(0, len(x), 5000)]
        return tuple(
            np.concatenate([np.asarray(getattr(part, name)) for part in q])[:, self.kept]
            for name in ("mu", "log_sigma")
        )


def sample_features(posterior: tuple[np.ndarray, np.ndarray], rng: Rng) -> np.ndarray:
    """Draws of N(mu, sigma^2) from (mu, log sigma), each (B, J): fresh features for a minibatch (section 3.2.1)."""
    mu, log_sigma = posterior
    return mu + np.exp(log_sigma) * rng.standard_normal(mu.shape, dtype=mu.dtype)


def minibatch_loss(
    model: SemiSupervisedVAE,
    x: Any,
    y: np.ndarray,
    *,
    counts: tuple[int, int],
    batch: int = 100,
    alpha: float = 0.1,
    prepare: Callable | None = None,
) -> Callable[[Any, Rng], Tensor]:
    """``loss(unlabelled, rng)`` for :func:`minivi.training.fit`: minus J^alpha, in nats a datum (eq. 3.10).

    Each step takes ``batch`` labelled data beside the minibatch of unlabelled ones, drawn anew with replacement.

    Args:
        model: M2.
        x, y: labelled data, (N_l, D) or a tuple of aligned arrays as ``prepare`` takes, and labels (N_l,).
        counts: N_l and N_u.
        batch: labelled data a step.
        alpha: see :meth:`minivi.models.SemiSupervisedVAE.objective`.
        prepare: ``prepare(x, rng)`` for the labelled minibatch, e.g. to binarize it afresh.

    Raises:
        ValueError: nothing labelled.
    """
    if not len(y):
        raise ValueError("minibatch_loss: no labelled datum; give at least one of each class")
    validate.count(batch, "minibatch_loss: batch")

    def loss(unlabelled, rng):
        rows = rng.integers(0, len(y), size=batch)
        here = tuple(take(part, rows) for part in x) if isinstance(x, tuple) else take(x, rows)
        here = prepare(here, rng) if prepare else here
        return -model.objective(here, take(y, rows), unlabelled, rng, counts=counts, alpha=alpha)

    return loss


class SemiSupervisedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that learns from data with and without labels: M2, or M2 on M1's features (thesis chapter 3).

    It has the habits of scikit-learn; as with its semi-supervised classifiers the label -1 means that there is none.
    Data are centred and scaled, unless they are pixels in [0, 1].

    Args:
        stack: train a VAE first (M1), then M2 on samples of its latents (M1+M2).
        pixels: data are grey values in [0, 1], binarized afresh for each minibatch; else Gaussian.
        hidden: sizes of M2's hidden layers.
        latents: of M2.
        alpha: weight of the classifier's term, a datum.
        epochs: passes over the unlabelled data, at least ``least_steps`` steps in all.
        least_steps: see ``epochs``.
        batch_size: unlabelled data a step; with them go as many labelled ones, at most all.
        step_size: of Adam.
        feature_hidden, feature_latents, feature_epochs: of M1.
        random_state: seed; an integer or None.
        verbose: show progress.

    Attributes:
        classes_: labels in order.
        model_: the trained :class:`minivi.models.SemiSupervisedVAE`.
        features_: :class:`Features`, with ``stack``.
        n_features_in_: D.

    Example:
        >>> from minivi import data
        >>> digits = data.load("digits")
        >>> y = np.where(np.arange(1500) < 200, digits.train_labels, -1)
        >>> classifier = SemiSupervisedClassifier(pixels=True, hidden=(100,), latents=10, epochs=10, random_state=0)
        >>> bool(classifier.fit(digits.train, y).score(digits.test, digits.test_labels) > 0.8)
        True
    """

    def __init__(
        self, *, stack=False, pixels=False, hidden=(500,), latents=50, alpha=0.1, epochs=50, least_steps=1000,
        batch_size=100, step_size=1e-3, feature_hidden=(600, 600), feature_latents=50, feature_epochs=50,
        random_state=None, verbose=False,
    ):  # fmt: skip
        self.stack, self.pixels, self.hidden, self.latents, self.alpha = stack, pixels, hidden, latents, alpha
        self.epochs, self.least_steps, self.batch_size, self.step_size = epochs, least_steps, batch_size, step_size
        self.feature_hidden, self.feature_latents, self.feature_epochs = feature_hidden, feature_latents, feature_epochs
        self.random_state, self.verbose = random_state, verbose

    def fit(self, X: Any, y: Any) -> SemiSupervisedClassifier:
        """Train on ``X`` (N, D) and labels ``y`` (N,), -1 where there is none.

        Raises:
            ValueError: no datum is labelled, or all with one class; pixels outside [0, 1]; otherwise as scikit-learn.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        given = y != -1 if y.dtype.kind in "iuf" else np.ones(len(y), bool)
        if not given.any():
            raise ValueError(
                "SemiSupervisedClassifier: every label is -1, none; label at least one datum of each class"
            )
        self.classes_, labels = np.unique(y[given], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"SemiSupervisedClassifier: one class only, {self.classes_[0]!r}; label data of two classes or more"
            )
        if self.pixels:
            validate.unit_interval(X, "SemiSupervisedClassifier: X")
        else:
            deviation = X.std(axis=0)
            self.mean_, self.scale_ = X.mean(axis=0), np.where(deviation > 0, deviation, 1).astype(np.float32)
        rng, self.features_ = Generator(self.random_state), None
        x, prepare = self._scaled(X), data.fresh if self.pixels else _as_it_is
        if self.stack:
            vae = self._new_m1(X.shape[1], rng, logit_of_mean(X) if self.pixels else 0.0)
            self._minimise(vae, lambda x, rng: -vae.elbo(x, rng).mean(), x, rng, prepare, self.feature_epochs)
            self.features_ = Features(vae, x[:1000])
            x, prepare = self.features_.posterior(x), sample_features
        self._train(x if self.stack else (x,), labels, given, prepare, rng)
        return self

    def _new_m1(self, columns, rng, bias=0.0):
        kind = "bernoulli" if self.pixels else "gaussian"
        sizes = columns, self.feature_hidden, self.feature_latents
        return VAE(*sizes, kind, "softplus", squash=False, rng=rng, output_bias=bias)

    def _new_m2(self, columns, rng, bias=0.0):
        kind = "bernoulli" if self.pixels and not self.stack else "gaussian"
        sizes = columns, len(self.classes_), self.hidden, self.latents
        return SemiSupervisedVAE(*sizes, kind, rng=rng, init=glorot, output_bias=bias)

    def _train(self, parts, labels, given, prepare, rng):
        """M2 on the arrays ``parts``."""
        plain = self.pixels and not self.stack
        self.model_ = self._new_m2(parts[0].shape[1], rng, logit_of_mean(parts[0]) if plain else 0.0)
        counts = int(given.sum()), int((~given).sum())
        one = lambda arrays: arrays if self.stack else arrays[0]  # what `prepare` takes
        labelled = tuple(part[given] for part in parts)
        if counts[1]:
            loss = minibatch_loss(
                self.model_, one(labelled), labels, counts=counts, batch=min(self.batch_size, counts[0]),
                alpha=self.alpha, prepare=prepare,
            )  # fmt: skip
            self._minimise(self.model_, loss, one(tuple(part[~given] for part in parts)), rng, prepare, self.epochs)
        else:
            loss = lambda batch, rng: -self.model_.objective(*batch, None, rng, counts=counts, alpha=self.alpha)
            both = lambda batch, rng: (prepare(one(batch[:-1]), rng), batch[-1])
            self._minimise(self.model_, loss, (*labelled, labels), rng, both, self.epochs)

    def _minimise(self, model, loss, train, rng, prepare, epochs):
        count = len(train[0] if isinstance(train, tuple) else train)
        steps = -(-count // self.batch_size)
        fit(
            model, loss, Adam(model.parameters(), self.step_size, weight_decay=1.0 / count), train,
            epochs=max(epochs, -(-self.least_steps // steps)), batch_size=self.batch_size, rng=rng, prepare=prepare,
            progress=self.verbose,
        )  # fmt: skip

    def _scaled(self, X):
        return X if self.pixels else (X - self.mean_) / self.scale_

    def predict_proba(self, X: Any) -> np.ndarray:
        """q(y | x) of each class in the order of ``classes_``, (N, C); with ``stack`` at the features' means."""
        check_is_fitted(self)
        x = self._scaled(validate_data(self, X, dtype=np.float32, reset=False))
        return self.model_.predict_proba(self.features_.posterior(x)[0] if self.features_ else x)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each datum, (N,)."""
        likeliest = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[likeliest]

    def save(self, path: str | os.PathLike) -> None:
        """Write the trained classifier into one safetensors file, whole or not at all; :func:`load` reads it."""
        check_is_fitted(self)
        arrays = {f"model.{name}": value for name, value in self.model_.state_dict().items()}
        about = {"parameters": self.get_params(), "classes": self.classes_, "columns": self.n_features_in_}
        if self.features_:
            arrays |= {f"vae.{name}": value for name, value in self.features_.vae.state_dict().items()}
            about["kept"] = self.features_.kept
        if not self.pixels:
            arrays |= {"mean": self.mean_, "scale": self.scale_}
        save_arrays(path, arrays, {"kind": KIND, **about})


def load(path: str | os.PathLike) -> SemiSupervisedClassifier:
    """The classifier that :meth:`SemiSupervisedClassifier.save` has written.

    Raises:
        TrainingError: the file is missing, changed in any bit, or holds something else.
    """
    arrays, about = load_arrays(path)
    if about.get("kind") != KIND:
        raise TrainingError(f"{path} holds no trained classifier; pass a file of SemiSupervisedClassifier.save")
    classifier = SemiSupervisedClassifier(**about["parameters"])
    classifier.classes_, classifier.n_features_in_ = np.array(about["classes"]), about["columns"]
    part = lambda prefix: {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
    classifier.features_, columns = None, about["columns"]
    if not classifier.pixels:
        classifier.mean_, classifier.scale_ = arrays["mean"], arrays["scale"]
    if "kept" in about:
        vae = classifier._new_m1(columns, Generator(0))
        vae.load_state_dict(part("vae."))
        classifier.features_ = Features(vae, kept=np.array(about["kept"]))
        columns = len(about["kept"])
    classifier.model_ = classifier._new_m2(columns, Generator(0))
    classifier.model_.load_state_dict(part("model."))
    return classifier


def _as_it_is(x, rng):
    return x
