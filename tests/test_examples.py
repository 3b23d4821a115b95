"""The examples in docstrings run, and give what they say."""

import doctest
import importlib

import pytest

FIRST_MET = {
    "tensor": ("Tensor", "grad", "value_and_grad"), "gradcheck": ("gradcheck",), "random": ("Generator",),
    "nn.layers": ("Linear", "MLP"), "distributions": ("Normal", "Bernoulli"), "bounds": ("elbo", "iwae"),
    "models.vae": ("VAE",), "optim": ("Adam",), "data.loading": ("load",),
    "data.minibatches": ("balanced", "batches", "binarize"),
    "evaluation": ("elbo", "log_likelihood"), "training": ("fit",), "ops": ("softplus",),
}  # fmt: skip


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in FIRST_MET.items() for n in names])
def test_example(module, name):
    module = importlib.import_module(f"minivi.{module}")
    thing = getattr(module, name)
    (test,) = doctest.DocTestFinder(recurse=False).find(thing, name, module, vars(module))
    assert test.examples, f"{name} has no example"
    assert doctest.DocTestRunner().run(test).failed == 0
