"""Modules, layers and their initial values."""

import inspect
import pydoc

import numpy as np
import pytest

from minivi import data, evaluation, nn, ops, optim, training
from minivi.gradcheck import gradcheck
from minivi.models import VAE, LayeredVAE
from minivi.random import Generator
from minivi.tensor import Parameter, grad


class Pair(nn.Module):
    def __init__(self):
        self.first = nn.Linear(3, 2, Generator(0))
        self.rest = [nn.Linear(2, 2, Generator(1)), {"not": "a parameter"}]
        self.scale = Parameter(np.ones(2, "float32"))


def test_names_and_order():
    pair = Pair()
    names = [name for name, _ in pair.named_parameters()]
    assert names == ["first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "scale"]
    assert [p.name for p in pair.parameters()] == names


def test_state_dict_round_trip_and_copies():
    a, b = Pair(), Pair()
    state = a.state_dict()
    b.scale.assign([5.0, 6.0])
    b.load_state_dict(state)
    state["scale"][:] = 9.0
    np.testing.assert_array_equal(a.scale.data, [1.0, 1.0])
    np.testing.assert_array_equal(b.scale.data, [1.0, 1.0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s.pop("scale"), r"missing \['scale'\], unknown none"),
        (lambda s: s.update(more=np.ones(1)), r"unknown \['more'\]"),
        (lambda s: s.update(scale=np.ones(3, "float32")), r"scale is float32 of shape \(2,\)"),
        (lambda s: s.update(scale=np.ones(2)), "float64"),
    ],
)
def test_load_state_dict_is_strict_and_changes_nothing(change, match):
    pair = Pair()
    state = {k: v + 1 for k, v in pair.state_dict().items()}
    change(state)
    before = pair.state_dict()
    with pytest.raises(ValueError, match=match):
        pair.load_state_dict(state)
    for name, value in pair.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_astype_copies():
    pair = Pair()
    other = pair.astype("float64")
    assert {p.dtype.name for p in other.parameters()} == {"float64"}
    other.scale.assign([7.0, 7.0])
    np.testing.assert_array_equal(pair.scale.data, [1.0, 1.0])
    births = [p._birth for p in (*pair.parameters(), *other.parameters())]
    assert len(set(births)) == len(births)  # two parameters with one birth would be one to the engine


def test_linear_against_numpy(rng):
    layer = nn.Linear(4, 3, Generator(0), bias=[1.0, 2.0, 3.0], dtype="float64")
    x = rng.standard_normal((2, 5, 4))
    np.testing.assert_allclose(layer(x).data, x @ layer.weight.data + [1.0, 2.0, 3.0], rtol=1e-14)


@pytest.mark.parametrize("activation", sorted(nn.ACTIVATIONS))
def test_mlp_gradients(activation, rng):
    mlp = nn.MLP((3, 5, 4, 2), Generator(3), activation=activation, dtype="float64")
    report = gradcheck(lambda x: mlp(x), rng.standard_normal((4, 3)), parameters=mlp)
    assert report.ok, str(report)


def test_mlp_has_no_activation_at_the_end_and_its_bias_there():
    mlp = nn.MLP((2, 3, 1), Generator(0), activation="relu", out_bias=-50.0)
    assert (mlp(np.zeros((4, 2), "float32")).data < -10).all()


def test_initial_values_have_the_stated_moments():
    rng = Generator(0)
    w = nn.glorot(rng, (400, 600))
    assert np.abs(w).max() <= np.sqrt(6 / 1000) and w.std() == pytest.approx(np.sqrt(2 / 1000), rel=0.01)
    assert nn.he(rng, (400, 600)).std() == pytest.approx(np.sqrt(2 / 400), rel=0.01)
    assert nn.normal(0.1)(rng, (400, 600)).std() == pytest.approx(0.1, rel=0.01)


def test_both_dtypes_start_from_the_same_draws():
    single, double = (nn.Linear(5, 4, Generator(7), dtype=d) for d in ("float32", "float64"))
    np.testing.assert_array_equal(single.weight.data, double.weight.data.astype("float32"))


def test_logit_of_mean():
    x = np.array([[0.0, 1.0, 0.25], [0.0, 1.0, 0.75]])
    bias = nn.logit_of_mean(x, margin=0.01)
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), [0.01, 0.99, 0.5], rtol=1e-12)


def test_errors():
    with pytest.raises(ValueError, match="unknown activation 'sin'; one of tanh"):
        nn.MLP((2, 2), Generator(0), activation="sin")
    with pytest.raises(ValueError, match="at least an input and an output"):
        nn.MLP((2,), Generator(0))


def test_weights_get_gradients():
    mlp = nn.MLP((2, 3, 1), Generator(0))
    gradients = grad(mlp(np.ones((4, 2), "float32")).sum(), mlp.parameters())
    assert [g.shape for g in gradients] == [(2, 3), (3,), (3, 1), (1,)]


def test_things_print_what_they_are():
    rng = Generator(0)
    vae = VAE(4, (3,), 2, rng=rng)
    told = {
        vae: "VAE(encoder=MLP(4-3-4, tanh), decoder=MLP(2-3-4, tanh)): 56 parameters",
        nn.MADE(4, (5,), rng, activation="elu"): "MADE(4-5-4, elu): 49 parameters",
        nn.Linear(1, 1, rng): "Linear(1 -> 1): 2 parameters",
        LayeredVAE(4, [(3,), (2,)], [2, 1], rng=rng): "LayeredVAE(encoders=[MLP(4-3-4, tanh), MLP(2-2-2, tanh)], "
        "decoders=[MLP(2-3-4, tanh), MLP(1-2-4, tanh)]): 84 parameters",
        ops.sum: "primitive sum(x, axis=None, keepdims=False)",
        optim.SGD(vae.parameters(), 0.1): "SGD(steps=0, step_size=0.1, weight_decay=0.0, eps=1.0, momentum=0.0, "
        "nesterov=False): 8 arrays of parameters",
        training.History([{"epoch": 1, "loss": 3.25}]).__repr__: "History(1 epochs; the last: epoch 1, loss 3.25)",
        data.load("digits"): "Dataset('digits', grey, 8 x 8, 1500/297, labels)",
        evaluation.Estimate(-1.0, 0.5, 0.1, np.zeros(3)).__repr__: "Estimate(-1.00 +- 0.50, of 3 data, noise 0.1)",
    }
    for thing, text in told.items():
        assert (thing() if inspect.ismethod(thing) else repr(thing)) == text
    assert "softplus = primitive softplus(x)\n    log(1 + exp(x))" in pydoc.plain(pydoc.render_doc(ops.softplus))
