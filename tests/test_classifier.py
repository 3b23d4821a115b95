"""Sparse inputs, dropout, the classifier, and training on (x, labels)."""

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array, csr_matrix, random_array

from minivi import kernels, nn, optim
from minivi.data import batches
from minivi.distributions import Categorical
from minivi.gradcheck import gradcheck
from minivi.kernels import reference
from minivi.models.classifier import Classifier
from minivi.random import Generator
from minivi.tensor import grad
from minivi.training import fit


def sparse(m, k, density=0.2, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return random_array((m, k), density=density, format="csr", dtype=dtype, rng=rng)


@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (5, 4, 0), (7, 13, 3), (300, 1000, 40)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_product_and_twin(shape, dtype):
    m, k, n = shape
    x, b = sparse(m, k, dtype=dtype), np.random.default_rng(1).standard_normal((k, n)).astype(dtype)
    exact = x.toarray().astype(np.float64) @ b
    room = 4 * np.finfo(dtype).eps * (np.abs(x.toarray()) @ np.abs(b)) + np.finfo(dtype).tiny
    for found in (kernels, reference):
        y = found.sparse_matmul(x.data, x.indices, x.indptr, b)
        assert y.dtype == dtype and y.shape == (m, n)
        assert np.all(np.abs(y - exact) <= room)


def test_sparse_rows_must_be_rows():
    x, b = sparse(4, 5, 0.5), np.ones((5, 2), np.float32)
    for change, match in [
        ((x.data, x.indices, x.indptr[1:]), "start"),
        ((x.data, x.indices[1:], x.indptr), "data"),
        ((x.data, x.indices + 3, x.indptr), "columns"),
    ]:
        for found in (kernels, reference):
            with pytest.raises(ValueError, match=match):
                found.sparse_matmul(*change, b)


def test_linear_takes_sparse_and_dense_alike():
    layer, x = nn.Linear(30, 4, Generator(0), dtype="float64"), sparse(9, 30, dtype=np.float64)
    cotangent = np.random.default_rng(2).standard_normal((9, 4))
    found = [(np.asarray(layer(a)), grad(layer(a), layer.parameters(), cotangent=cotangent)) for a in (x, x.toarray())]
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-12)
    for ours, dense in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(ours, dense, atol=1e-12)
    assert gradcheck(lambda: layer(csr_matrix(x)).sum(), parameters=layer).ok  # SciPy's older class too


def test_other_formats_are_refused():
    with pytest.raises(TypeError, match="tocsr"):
        nn.Linear(3, 2, Generator(0))(csc_array(np.eye(3, dtype=np.float32)))


def test_dropout_keeps_the_mean_and_nothing_else():
    x = np.full((400, 500), 3.0, np.float32)
    y = nn.dropout(x, 0.3, Generator(1))
    assert set(np.unique(y)) == {np.float32(0.0), np.float32(3.0) * np.float32(1 / 0.7)}
    assert abs(y.mean() - 3.0) < 4 * 3 * np.sqrt(0.3 / 0.7 / x.size)
    assert nn.dropout(x, 0.3) is x and nn.dropout(x, 0.0, Generator(1)) is x
    s = nn.dropout(csr_array(x), 0.3, Generator(1))
    np.testing.assert_array_equal(s.toarray(), y)
    assert isinstance(s, csr_array)


def test_classifier_is_the_mlp_and_its_softmax():
    model = Classifier(6, [5], 3, rng=Generator(3), dtype="float64")
    x, labels = np.asarray(Generator(4).standard_normal((8, 6))), np.arange(8) % 3
    (w1, b1), (w2, b2) = ((layer.weight.data, layer.bias.data) for layer in model.network.layers)
    logits = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(np.asarray(model.log_prob(x, labels)), expected[np.arange(8), labels], rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x), logits.argmax(axis=1))
    stacked = model.log_prob(x.reshape(2, 4, 6), labels.reshape(2, 4))
    np.testing.assert_allclose(np.asarray(stacked).ravel(), expected[np.arange(8), labels], rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x.reshape(2, 4, 6)), logits.argmax(axis=1).reshape(2, 4))
    assert gradcheck(lambda: model.log_prob(x, labels).mean(), parameters=model).ok


def test_classifier_drops_in_training_only():
    model = Classifier(20, [30, 30], 3, input_dropout=0.2, hidden_dropout=0.5, rng=Generator(3))
    x = np.asarray(Generator(4).random((5, 20), dtype=np.float32))
    still, again = np.asarray(model(x).logits), np.asarray(model(x).logits)
    np.testing.assert_array_equal(still, again)
    assert not np.allclose(still, np.asarray(model(x, Generator(5)).logits))
    with pytest.raises(ValueError, match=r"input_dropout must lie in \[0, 1\)"):
        Classifier(2, [], 2, input_dropout=1.0, rng=Generator(0))


def test_batches_and_fit_take_tuples_and_sparse_rows():
    x, labels = sparse(23, 7), np.arange(23)
    seen = [(part, y) for part, y in batches(x, labels, size=5, rng=Generator(1))]
    assert [part.shape[0] for part, _ in seen] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(
        np.concatenate([p.toarray() for p, _ in seen]), x.toarray()[np.concatenate([y for _, y in seen])]
    )

    model, classes = Classifier(7, [], 3, rng=Generator(2)), labels % 3
    losses = []

    def loss(batch, rng):
        part, y = batch
        value = -model.log_prob(part, y, rng).mean()
        losses.append((value.item(), len(y)))
        return value

    history = fit(
        model,
        loss,
        optim.SGD(model.parameters(), 0.1),
        (x, classes),
        epochs=1,
        batch_size=5,
        rng=Generator(3),
        progress=False,
    )
    assert history.records[0]["loss"] == pytest.approx(sum(v * n for v, n in losses) / 23, rel=1e-12)
    assert history.records[0]["examples"] == 23


def test_a_classifier_learns():
    """Three Gaussian blobs: logistic regression must come near Bayes' rule, which is linear."""
    rng = np.random.default_rng(5)
    centres, labels = np.array([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]]), np.arange(600) % 3
    x = (centres[labels] + rng.standard_normal((600, 2))).astype(np.float32)
    model = Classifier(2, [], 3, rng=Generator(6))
    fit(model, lambda b, rng: -model.log_prob(*b).mean(), optim.Adam(model.parameters(), 0.05), (x, labels),
        epochs=20, batch_size=50, rng=Generator(7), progress=False)  # fmt: skip
    bayes = np.mean(np.argmax(x @ centres.T - 0.5 * (centres**2).sum(axis=1), axis=1) != labels)
    assert np.mean(model.predict(x) != labels) <= bayes + 0.02
    assert isinstance(model(x), Categorical)
