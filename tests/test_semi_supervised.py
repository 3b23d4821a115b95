"""M2 and its estimator: bounds on the same noise, weights of the terms, gradients, scikit-learn's checks, bad input."""

import numpy as np
import pytest
from helpers import CHECKS, study
from sklearn.utils.estimator_checks import check_estimator

from minivi.cli import main
from minivi.gradcheck import gradcheck
from minivi.models import SemiSupervisedVAE
from minivi.random import Generator
from minivi.semi_supervised import SemiSupervisedClassifier, load, minibatch_loss
from minivi.small import shake

checks = study("ch03_semi_supervised", CHECKS)  # densities and bounds in NumPy
X, Y = checks.X, checks.Y


def tiny(likelihood="bernoulli", latents=1, hidden=(3,)):
    model = SemiSupervisedVAE(4, 3, hidden, latents, likelihood, prior=checks.PRIOR, rng=Generator(0), dtype="float64")
    return shake(model, Generator(1).standard_normal, 0.7)


def test_the_unlabelled_bound_sums_over_classes_by_enumeration():
    """The same noise for each class: U(x) = sum_y q (L(x, y) - log q), L from the labelled bound."""
    model = tiny(latents=2, hidden=(4, 3))
    eps = Generator(3).standard_normal((3, 3, 2))
    log_q = np.asarray(model.classify(X).log_probs)
    each = np.stack([np.asarray(model.labelled_bound(X, np.full(3, y), eps=eps[y])) for y in range(3)], axis=1)
    np.testing.assert_allclose(model.class_bounds(X, eps=eps).data.T, each, rtol=1e-12)
    right = (np.exp(log_q) * (each - log_q)).sum(axis=1)
    np.testing.assert_allclose(model.unlabelled_bound(X, eps=eps).data, right, rtol=1e-12)


def test_the_objective_weighs_its_terms_as_the_whole_data_set_does():
    """100 labelled and 900 other data: one of each, with the classifier's term at 0.1 N / N_l a labelled datum."""
    model, counts = tiny(), (100, 900)
    value = model.objective(X, Y, X[:2], Generator(4), counts=counts, alpha=0.1)
    rng = Generator(4)
    eps = rng.standard_normal((3 + 3 * 2, 1))
    labelled = np.asarray(model.labelled_bound(X, Y, eps=eps[:3])).mean()
    unlabelled = np.asarray(model.unlabelled_bound(X[:2], eps=eps[3:].reshape(3, 2, 1))).mean()
    log_q = checks.log_q_of(model)[np.arange(3), Y].mean()
    right = (100 * labelled + 900 * unlabelled + 0.1 * 1000 * log_q) / 1000
    np.testing.assert_allclose(value.item(), right, rtol=1e-12)
    all_labelled = model.objective(X, Y, None, Generator(4), counts=(100, 0), alpha=0.0)
    np.testing.assert_allclose(all_labelled.item(), labelled, rtol=1e-12)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_gradients(likelihood):
    model = tiny(likelihood, latents=2)
    report = gradcheck(
        lambda: model.objective(X, Y, X[::-1], Generator(5), counts=(3, 30), alpha=0.3), parameters=model
    )
    assert report.ok, report


def blobs(count=300, seed=0):
    """Three classes of Gaussian clusters, and labels of a tenth of them."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = 4.0 * np.eye(3)[y] + rng.standard_normal((count, 3))
    return x, y, np.where(np.arange(count) < 30, y, -1)


@pytest.mark.parametrize("stack", [False, True])
def test_the_classifier_learns_from_few_labels(stack):
    x, y, some = blobs()
    options = {"hidden": (20,), "latents": 2, "epochs": 60, "feature_hidden": (20,), "feature_latents": 3}
    classifier = SemiSupervisedClassifier(stack=stack, random_state=0, feature_epochs=60, **options).fit(x, some)
    assert classifier.score(x, y) > 0.9
    np.testing.assert_allclose(classifier.predict_proba(x).sum(axis=1), 1.0, rtol=1e-5)
    short = options | {"epochs": 1, "least_steps": 20, "feature_epochs": 1}
    one, other = (SemiSupervisedClassifier(stack=stack, random_state=0, **short).fit(x, some) for _ in range(2))
    np.testing.assert_array_equal(one.predict_proba(x), other.predict_proba(x))  # the seed decides


@pytest.mark.parametrize("stack", [False, True])
def test_what_is_saved_predicts_the_same(stack, tmp_path, capsys):
    x, _, some = blobs(60)
    options = {"hidden": (8,), "latents": 2, "epochs": 1, "least_steps": 20, "feature_hidden": (8,), "random_state": 0}
    classifier = SemiSupervisedClassifier(stack=stack, feature_latents=3, feature_epochs=1, **options).fit(x, some)
    path, file = tmp_path / "model.safetensors", tmp_path / "x.npy"
    classifier.save(path)
    np.testing.assert_array_equal(load(path).predict_proba(x), classifier.predict_proba(x))
    np.save(file, x)
    assert main(["predict", str(path), str(file)]) == 0
    assert capsys.readouterr().out.split() == [str(label) for label in classifier.predict(x)]
    np.save(file, x[:, :2])
    assert main(["predict", str(path), str(file)]) == 2
    assert "the classifier takes numbers (N, 3)" in capsys.readouterr().err
    file.write_text("no array")
    assert main(["predict", str(path), str(file)]) == 2 and "pass a .npy file" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["predict", str(path), str(file)]) == 1 and "safetensors" in capsys.readouterr().err


def test_labels_may_be_words_and_all_given():
    x, y, _ = blobs()
    names = np.array(["a", "b", "c"])[y]
    classifier = SemiSupervisedClassifier(hidden=(20,), latents=2, epochs=30, random_state=0).fit(x, names)
    assert classifier.classes_.tolist() == ["a", "b", "c"] and classifier.score(x, names) > 0.9


def test_scikit_learn_checks_the_estimator():
    """All checks that apply: -1 is no label, so that of the labels -1 and 1 does not."""
    no_label = {"check_classifiers_classes": "trains with the label -1, which says here that there is none"}
    classifier = SemiSupervisedClassifier(
        hidden=(20,), latents=2, epochs=1, least_steps=60, step_size=0.01, random_state=0
    )
    results = check_estimator(classifier, on_skip=None, expected_failed_checks=no_label)
    assert [r["check_name"] for r in results if r["status"] == "xfail"] == list(no_label)
    assert sum(r["status"] == "passed" for r in results) >= 50


@pytest.mark.parametrize(
    ("x", "y", "options", "match"),
    [
        ([[0.0], [1.0]], [-1, -1], {}, "every label is -1, none; label at least one datum of each class"),
        ([[0.0], [1.0]], [3, -1], {}, "one class only, .*3.*; label data of two classes or more"),
        ([[0.0], [2.0]], [0, 1], {"pixels": True}, "must lie in .0, 1."),
        ([[0.0], [1.0]], [0.5, 0.7], {}, "continuous"),
        ([[np.nan], [1.0]], [0, 1], {}, "NaN"),
    ],
)
def test_the_estimator_refuses(x, y, options, match):
    with pytest.raises(ValueError, match=match):
        SemiSupervisedClassifier(**options).fit(x, y)


def test_nothing_labelled():
    with pytest.raises(ValueError, match="no labelled datum"):
        minibatch_loss(tiny(), X[:0], Y[:0], counts=(0, 3))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m: m.labelled_bound(X, np.array([0, 1, 3]), Generator(0)), "integers .B,. from 0 to 2"),
        (lambda m: m.labelled_bound(X, np.array([0.0, 1.0, 2.0]), Generator(0)), "integers .B,. from 0 to 2"),
        (lambda m: m.labelled_bound(X, np.array([0, 1]), Generator(0)), "3 data and 2 labels"),
        (lambda m: m.unlabelled_bound(X[:, :3], Generator(0)), "4"),
        (lambda m: m.unlabelled_bound(X), "rng"),
        (lambda m: m.unlabelled_bound(X, eps=np.zeros((3, 2))), "pass .B, J., or .C, B, J."),
        (lambda m: SemiSupervisedVAE(4, 1, rng=Generator(0)), "classes"),
        (lambda m: SemiSupervisedVAE(4, 3, (), rng=Generator(0)), "hidden"),
        (lambda m: SemiSupervisedVAE(4, 3, prior=[0.5, 0.6, 0.1], rng=Generator(0)), "whose sum is 1"),
    ],
)
def test_refusals(call, match):
    with pytest.raises(ValueError, match=match):
        call(tiny())
