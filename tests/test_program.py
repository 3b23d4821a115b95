"""A step that runs as a program gives the bits of the eager step, or runs eagerly and says why."""

import copy
import os
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.sparse import csr_array

from minivi import Generator, bounds, estimators, flows, kernels, nn, ops, optim, training
from minivi.kernels import set_threads
from minivi.models import (
    VAE,
    BeliefNetwork,
    Classifier,
    FullVB,
    HamiltonianVAE,
    SemiSupervisedVAE,
    dropout_network,
    gaussian_network,
)
from minivi.nn import priors
from minivi.program import WARM_UP, Step, _once
from minivi.semi_supervised import minibatch_loss, sample_features
from minivi.tensor import Parameter, Tensor, detect_nonfinite, grad
from minivi.trace import Recorded, Trace

JIT = not os.environ.get("NUMBA_DISABLE_JIT", "0") == "1"
pytestmark = pytest.mark.skipif(not JIT, reason="without JIT every step is eager")
D, B = 12, 60  # enough data for the kernels of binary rows


def binary(rng, share=0.15):
    return (rng.random((B, D)) < share).astype("float32")


def grey(rng):
    return rng.random((B, D), dtype="float32")


def labelled(rng):
    return grey(rng), rng.integers(0, 3, B)


def vae(**options):
    return VAE(D, (8,), 3, rng=Generator(0), **options)


def of(model, loss, batch=binary, optimizers=None):
    return model, loss, optimizers or optim.Adam(model.parameters(), 1e-2), batch


def elbo(batch=binary, **options):
    model = options.pop("model", None) or vae()
    return of(model, lambda x, rng: -model.elbo(x, rng, **options).mean(), batch)


def weights(bound, **options):
    model = vae(**options)
    return of(model, lambda x, rng: -bound(model.log_weights(x, rng, 6)).mean())


def surrogate(make, **options):
    model = BeliefNetwork(D, (4, 3), rng=Generator(0), **options)
    return of(model, make(model))


def scheduled():
    model = vae()
    return of(model, lambda x, rng: -model.elbo(x, rng).mean(), optimizers=optim.Adam(
        model.parameters(), optim.linear(1e-2, 1e-3, 20), weight_decay=1e-3))  # fmt: skip


def several():
    model = vae()
    parts = optim.Adam(model.encoder.parameters(), 1e-2), optim.RMSProp(model.decoder.parameters(), 1e-3)

    def losses(x, rng):
        terms = model.terms(x, rng)
        return -(terms.log_px_z + terms.log_pz - terms.log_qz_x).mean(), -terms.log_px_z.mean()

    return of(model, losses, optimizers=list(parts))


def classifier(**options):
    model = Classifier(D, (7, 5), 3, rng=Generator(0), **options)
    return of(model, lambda part, rng: -model.log_prob(*part, rng).mean(), labelled)


def dropout(method):
    model = dropout_network((D, 7, 5, 3), method, Generator(0))
    return of(model, lambda part, rng: -model.bound(*part, rng, count=500).mean(), labelled)


def bayes(**options):
    model = gaussian_network((D, 7, 3), Generator(0), **options)
    return of(model, lambda part, rng: -model.bound(*part, rng, count=500).mean(), labelled)


def semi(features=False):
    model = SemiSupervisedVAE(D, 3, (7,), 2, "gaussian" if features else "bernoulli", rng=Generator(0))
    rng = np.random.default_rng(1)
    x, y = binary(rng)[:6], np.arange(6) % 3
    if features:
        x = x, np.full_like(x, -1)
    loss = minibatch_loss(model, x, y, counts=(6, 500), batch=5, prepare=sample_features if features else None)
    return of(model, loss)


CASES = {
    "A": lambda: elbo(estimator="A"), "B": elbo, "full": lambda: elbo(model=vae(posterior="full")),
    "gaussian": lambda: elbo(model=vae(likelihood="gaussian")), "grey": lambda: elbo(grey, samples=2),
    "grey, gaussian": lambda: elbo(grey, model=vae(likelihood="gaussian")), "samples": lambda: elbo(samples=3),
    "iaf": lambda: elbo(model=vae(flow=flows.iaf(3, 2, [6], Generator(3), context=2), context=2)),
    "iwae": lambda: weights(bounds.iwae), "miwae": lambda: weights(lambda w: bounds.miwae(w, 2)),
    "float64": lambda: elbo(model=vae(dtype="float64")),
    "scheduled": scheduled, "several": several, "classifier": classifier,
    "classifier, dropout": lambda: classifier(input_dropout=0.2, hidden_dropout=0.5),
    "binary dropout": lambda: dropout("binary"), "gaussian A": lambda: dropout("gaussian A"),
    "variational A": lambda: dropout("variational A"), "variational B": lambda: dropout("variational B"),
    "backprop": lambda: bayes(sampling="minibatch", prior=priors.ScaleMixture()),
    "datum": lambda: bayes(sampling="datum"),
    "M2": semi, "M1+M2": lambda: semi(True), "full VB": lambda: elbo(model=FullVB(vae(), 500)),
    "full VB, local": lambda: elbo(model=FullVB(vae(), 500, local=True, network="encoder")),
    "vimco": lambda: surrogate(lambda m: lambda x, rng: -estimators.vimco(m, x, rng, 4).mean()),
    "rws": lambda: surrogate(lambda m: lambda x, rng: -estimators.reweighted_wake_sleep(m, x, rng, 4).mean()),
    "hamiltonian": lambda: elbo(model=HamiltonianVAE(D, (8,), 3, rng=Generator(0))),
}  # fmt: skip
MAY_STAY_EAGER = set()


def trained(case, compiled, steps=25, batches=None):
    """Losses, weights and the state of the generator after some steps, and the step."""
    model, loss, optimizer, batch = case()
    step, rng = Step(loss, optimizer, compiled=compiled, quiet=True), Generator(7)
    stream = np.random.default_rng(8)
    dtype = next(iter(model.parameters())).dtype
    values = []
    for k in range(steps):
        x = batches[k] if batches else batch(stream)
        x = tuple(p.astype(dtype) if p.dtype.kind == "f" else p for p in x) if isinstance(x, tuple) else x.astype(dtype)
        values.append(step(x, rng))
    return values, model.state_dict(), rng.state, step


def equal(one, other):
    (a, weights, state, _), (b, others, other_state, _) = one, other
    assert a == b
    assert state == other_state
    assert all(weights[name].tobytes() == others[name].tobytes() for name in weights)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_a_program_gives_the_bits_of_the_eager_step(name, threads):
    try:
        set_threads(threads)
    except ValueError:
        pytest.skip("Numba was started with one thread")
    eager, program = trained(CASES[name], False), trained(CASES[name], True)
    set_threads(1)
    equal(eager, program)
    step = program[3]
    assert step.compiled == 25 - WARM_UP - 2 or (name in MAY_STAY_EAGER and step.why), step.why


# ------------------------------------------------------------------------------------- what must not be frozen
def plant(change):
    """A VAE whose loss has something that a program would freeze."""

    def case():
        model = vae()
        return of(model, change(model))

    return case


def counter(model):
    count = [0]

    def loss(x, rng):
        count[0] += 1
        return -(model.elbo(x, rng) * min(1.0, count[0] / 10)).mean()

    return loss


def own_generator(model):
    own = Generator(5)
    return lambda x, rng: -model.elbo(x, own).mean()


def numpys_generator(model):
    own = np.random.default_rng(5)
    return lambda x, rng: -model.elbo(x, eps=own.standard_normal((1, B, 3)).astype("float32")).mean()


def left_graph(model):
    return lambda x, rng: -(model.elbo(x, rng) * np.exp(np.asarray(model.decoder.layers[0].bias)).mean()).mean()


def as_float(model):
    return lambda x, rng: -model.elbo(x, rng).mean() * (1.0 + float(model.decoder.layers[0].bias.data[0]))


def running_mean(model):
    kept = [0.0]

    def loss(x, rng):
        value = model.elbo(x, rng)
        kept[0] = 0.9 * kept[0] + 0.1 * float(np.asarray(value).mean())
        return -((value - kept[0]) * value).mean()

    return loss


def own_index(model):
    data = np.random.default_rng(3).random((200, D)).astype("float32")
    return lambda x, rng: -model.elbo((data[rng.integers(0, 200, size=B)] > 0.5).astype("float32"), rng).mean()


def by_size(model):
    return lambda x, rng: -model.elbo(x, rng, samples=1 + int(x.sum()) % 2).mean()


def single_number(model):
    return lambda x, rng: -model.elbo(x, rng).mean() * rng.random()


def written_in_place(model):
    kept = np.zeros(B, "float32")

    def loss(x, rng):
        value = model.elbo(x, rng)
        kept[:] = np.asarray(value)
        return -(value * kept.mean()).mean()

    return loss


def added_up(model):
    kept = np.zeros(B, "float32")

    def loss(x, rng):
        value = model.elbo(x, rng)
        np.add(kept, np.asanyarray(value), out=kept)
        return -(value * kept.mean()).mean()

    return loss


def decayed(model):
    def loss(x, rng):
        bias = model.decoder.layers[0].bias
        bias.assign(0.9 * bias.data)
        return -model.elbo(x, rng).mean()

    return loss


PLANTED = {f.__name__: f for f in (
    counter, own_generator, numpys_generator, left_graph, as_float, running_mean, own_index, by_size, single_number,
    written_in_place, added_up,
)}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_value_that_changes_is_never_frozen(name):
    eager, program = trained(plant(PLANTED[name]), False), trained(plant(PLANTED[name]), True)
    equal(eager, program)
    assert program[3].why or program[3].compiled < 20, "it must have been refused, or guarded"


def test_a_loss_that_writes_into_parameters_does_so_once_a_step():
    eager, program = trained(plant(decayed), False), trained(plant(decayed), True)
    equal(eager, program)


def test_the_warning_names_what_differs():
    _, loss, optimizer, batch = plant(counter)()
    step, rng, stream = Step(loss, optimizer), Generator(7), np.random.default_rng(8)
    with pytest.warns(RuntimeWarning, match="steps stay eager: .*multiply"):
        for _ in range(10):
            step(batch(stream), rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(batch(stream), rng)  # told once


# ------------------------------------------------------------------------------------------------------- guards
def test_a_batch_that_is_not_binary_runs_eagerly_and_right():
    stream = np.random.default_rng(3)
    batches = [grey(stream) if k in (12, 13, 20) else binary(stream) for k in range(25)]
    eager, program = trained(elbo, False, batches=batches), trained(elbo, True, batches=batches)
    equal(eager, program)
    assert program[3].compiled == 25 - WARM_UP - 2 - 3


def test_batches_that_lie_anywhere_are_read_where_they_are_and_only_then():
    room = np.empty(B * D * 4 + 1, np.uint8)
    odd = np.frombuffer(room, "f4", B * D, offset=1).reshape(B, D)  # not aligned: such are copied

    def batches(compiled):
        stream, used = np.random.default_rng(3), np.empty((B, D), "f4")
        model = vae()
        step, rng = (
            Step(lambda x, r: -model.elbo(x, r).mean(), optim.Adam(model.parameters()), compiled=compiled),
            Generator(7),
        )
        values = []
        for k in range(25):
            here = binary(stream) if k % 3 else used
            if k % 5 == 4:
                here = np.frombuffer(room, "f4", B * D, offset=1).reshape(B, D)
            here[...] = binary(stream)
            values.append(step(here, rng))
            here[...] = np.nan  # nobody may look at it after the step
        return values, step.compiled

    assert not odd.flags.aligned
    (eager, _), (program, compiled) = batches(False), batches(True)
    assert eager == program and compiled == 20


def test_batches_of_other_shapes_have_programs_of_their_own():
    stream = np.random.default_rng(3)
    batches = [binary(stream)[: B - 5 * (k % 2)] for k in range(30)]
    eager, program = trained(elbo, False, 30, batches), trained(elbo, True, 30, batches)
    equal(eager, program)
    assert program[3].compiled == 30 - 2 * (WARM_UP + 2)


def spoiled(part, k):
    """``part`` with one number that should not be there, or another one that may: the ``k``-th of them."""
    part = part.copy()
    part.flat[part.size // 2] = (np.nan, np.inf, 2.0, -0.5, 0.5, 1e38)[k] if part.dtype.kind == "f" else (3, -1)[k % 2]
    return part


@pytest.mark.parametrize("name", CASES)
def test_bad_input_in_mid_run_is_told_as_the_eager_step_tells_it(name):
    seen = []
    for compiled in (False, True):
        model, loss, optimizer, batch = CASES[name]()
        step, rng, stream = Step(loss, optimizer, compiled=compiled, quiet=True), Generator(7), np.random.default_rng(8)
        dtype, told = next(iter(model.parameters())).dtype, []
        for k in range(26):
            parts = batch(stream)
            parts = parts if isinstance(parts, tuple) else (parts,)
            parts = [p.astype(dtype) if p.dtype.kind == "f" else p for p in parts]
            if k >= 10 and k % 2:  # also in two parts at once, or in the last alone
                parts = [spoiled(p, k // 2 % 6) if j % 2 <= k // 2 % 3 else p for j, p in enumerate(parts)]
            try:
                with np.errstate(all="ignore"):
                    told.append(step(tuple(parts) if len(parts) > 1 else parts[0], rng))
            except (ValueError, FloatingPointError) as error:
                told.append(f"{type(error).__name__}: {error}")
            told.append((rng.state, [w.tobytes() for w in model.state_dict().values()]))
        seen.append(told)
        assert not compiled or step.compiled > 5, step.why
    assert seen[0] == seen[1]
    assert any("Error" in str(value) for value in seen[0])


@pytest.mark.parametrize("hidden", [(8,), (2000,)])
@pytest.mark.parametrize("which", [0, 1, -2])
def test_a_gradient_that_is_not_finite_leaves_what_the_eager_step_leaves(which, hidden):
    seen = []
    for compiled in (False, True):
        model = VAE(D, hidden, 3, rng=Generator(0))
        for p in model.parameters():
            p.assign(p.data + np.float32(1e-3))  # the root of 0 has no slope
        w = model.parameters()[which]  # small or large: looked at before anything changes, or block by block
        loss = lambda x, rng, m=model, w=w: -m.elbo(x, rng).mean() + 1e-3 * ops.sqrt(w * w + 0.0).sum()
        optimizer = optim.Adam(model.parameters(), optim.linear(1e-2, 1e-3, 20))
        step, rng, stream = Step(loss, optimizer, compiled=compiled, quiet=True), Generator(7), np.random.default_rng(8)
        told = []
        for k in range(16):
            try:
                with np.errstate(all="ignore"):
                    told.append(step(binary(stream), rng))
            except FloatingPointError as error:
                told.append(str(error))
            if k == 12:
                w._data.flat[len(w._data.flat) // 2] = 0  # whose root has a slope of 0 / 0
            told += [p.data.tobytes() for p in model.parameters()] + [rng.state, optimizer.steps]
        seen.append(told)
        assert not compiled or step.compiled > 5, step.why
    assert seen[0] == seen[1]
    assert any("not finite" in str(x) for x in seen[0])


def test_an_error_of_the_eager_step_is_raised_in_a_program_too():
    _, loss, optimizer, batch = classifier()
    step, rng, stream = Step(loss, optimizer, quiet=True), Generator(7), np.random.default_rng(8)
    for _ in range(10):
        step(batch(stream), rng)
    assert step.compiled
    x, y = batch(stream)
    y[0] = 3
    with pytest.raises(ValueError, match="labels from 0 to 3 for 3 classes"):
        step((x, y), rng)


def test_sparse_batches_and_other_generators_stay_eager():
    model = Classifier(D, (), 3, rng=Generator(0))
    step = Step(lambda x, rng: -model.log_prob(x, np.arange(B) % 3).mean(), optim.Adam(model.parameters()))
    for _ in range(10):
        step(csr_array(binary(np.random.default_rng(0))), Generator(1))
    assert not step.compiled
    _, loss, optimizer, batch = elbo()
    step, stream = Step(loss, optimizer, quiet=True), np.random.default_rng(8)
    for _ in range(10):
        step(batch(stream), np.random.default_rng(1))
    assert not step.compiled and "which is not minivi's" in step.why


def test_under_detect_nonfinite_every_step_is_eager():
    _, loss, optimizer, batch = elbo()
    step, rng, stream = Step(loss, optimizer), Generator(7), np.random.default_rng(8)
    with detect_nonfinite():
        for _ in range(10):
            step(batch(stream), rng)
    assert not step.compiled


# ------------------------------------------------------------------------------- what is rare, or outside of the step
def compared(make, batch=binary, steps=30, hook=None):
    """Everything after each step of a compiled and of an eager run: losses or errors, batch, weights, generator."""
    seen = []
    for compiled in (False, True):
        model = vae()
        step = Step(make(model), optim.Adam(model.parameters(), 1e-2), compiled=compiled, quiet=True)
        rng, stream, told = Generator(7), np.random.default_rng(8), []
        for k in range(steps):
            x = batch(stream, k) if batch is not binary else binary(stream)
            if hook:
                hook(k)
            try:
                told.append(step(x, rng))
            except (ValueError, IndexError) as error:
                told.append(repr(error))
            told += [p.tobytes() for p in (x if isinstance(x, tuple) else (x,))]
            told += [p.data.tobytes() for p in model.parameters()] + [rng.state]
        seen.append(told)
    assert seen[0] == seen[1]
    return step


def rare_label(stream, k):
    """The label 2 comes at every ninth step only."""
    return binary(stream), np.where(np.arange(B) == 7, 1 + (k % 9 == 8), 1).astype("int32")


RARE = {
    "an array of integers times a Tensor": lambda m: lambda p, r: -(m.elbo(p[0], r) * p[1]).mean(),
    "rows of a table": lambda m: lambda p, r: -(m.elbo(p[0], r) * np.eye(3, dtype="float32")[p[1]].sum(1)).mean(),
    "weights of a table": lambda m: lambda p, r: -(m.elbo(p[0], r) * np.float32([1, 2, 5])[p[1]]).mean(),
    "outside of the trace": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * float(np.asarray(p[1]).max()),
    "a result of another size": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * float(np.unique(p[1]).shape[0]),
    "formatted": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * float(f"{p[1].max():d}"),
    "printed": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * (2.0 if "2" in str(p[1]) else 1.0),
    "a key": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * {1: 1.0, 2: 3.0}[p[1].max()],
    "its bytes": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * (2.0 if b"\2" in p[1].tobytes() else 1.0),
    "its iterator": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * (2.0 if 2 in list(p[1].flat) else 1.0),
    "rounded": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * float(round(p[1].max())),
    "complex": lambda m: lambda p, r: -m.elbo(p[0], r).mean() * complex(p[1].max()).real,
}  # fmt: skip


@pytest.mark.parametrize("name", RARE)
def test_what_was_the_same_in_both_traced_steps_is_not_frozen(name):
    compared(RARE[name], rare_label)


@pytest.mark.parametrize("loss", [
    lambda m: lambda p, r: -m.elbo(p[0], r).mean() * p[1].mean(),
    lambda m: lambda p, r: p[0].mean(dtype="float64") * -m.elbo(p[0], r).mean(),
    lambda m: lambda p, r: -m.elbo(p[0], r).mean() * (1 + np.count_nonzero(p[1] == 1)),
])  # fmt: skip
def test_a_scalar_of_numpy_takes_the_dtype_of_tensors_in_a_traced_step_too(loss):
    assert compared(loss, lambda stream, k: (binary(stream), stream.integers(0, 3, B))).compiled > 20


def test_what_a_traced_array_cannot_do_is_done_eagerly():
    step = compared(lambda m: lambda x, r: -m.elbo(x, r).mean() * (1.0 + x.mean(dtype="float64").is_integer()))
    assert "no attribute 'is_integer'" in step.why


def halved(model):
    def loss(x, rng):
        x *= np.float32(0.5)
        return -model.elbo((x > 0).astype("float32"), rng).mean()

    return loss


def read_only(stream, k):
    x = binary(stream)
    x.flags.writeable = False
    return x


def test_a_loss_that_writes_into_the_batch_writes_into_the_callers():
    assert "writes into the batch" in compared(halved).why
    compared(halved, read_only)


BATCHES = {
    "masked": lambda s, k: np.ma.masked_less(s.random((B, D), dtype="float32"), 0.3),
    "matrix": lambda s, k: s.random((B, D), dtype="float32").view(np.matrix),
    "strided": lambda s, k: s.random((B, 2 * D), dtype="float32")[:, ::2],
    "transposed": lambda s, k: s.random((D, B), dtype="float32").T,
    "of either order": lambda s, k: np.array(s.random((B, D), dtype="float32"), order="CF"[k % 2]),
}


@pytest.mark.parametrize("name", BATCHES)
def test_batches_of_other_classes_and_layouts(name):
    def loss(model):
        return lambda x, rng: -model.elbo((np.asarray(x) > 0.5).astype("float32"), rng).mean() * x.sum()

    compared(loss, BATCHES[name])


def test_rows_outside_of_a_large_table_raise_and_negative_ones_count_from_its_end():
    from minivi.kernels.shapes import take

    table = np.random.default_rng(0).standard_normal((6000, D)).astype("float32")

    def batch(stream, k):
        index = stream.integers(0, 6000, 3000)
        index[0] = {12: -1, 17: 6000}.get(k, 5)
        return binary(stream), index

    step = compared(lambda m: lambda p, r: -m.elbo(p[0], r).mean() * (1 + take(table, p[1]).mean()), batch)
    assert step.compiled == 30 - WARM_UP - 2 - 2


def test_a_guard_that_fails_after_a_write_into_a_parameter_undoes_it():
    def batch(stream, k):
        return binary(stream) + np.float32(2 * (k % 9 == 8))

    def loss(model):
        write = decayed(model)
        return lambda x, rng: write(np.minimum(x, 1), rng) * (2.0 if x.max() > 1 else 1.0)

    assert compared(loss, batch).compiled > 20


USES = [
    lambda p: (p * p).sum(), lambda p: p.data.sum(), lambda p: float(p.data[0]), lambda p: p[:1].data.item(),
    lambda p: float((p * p).sum()), lambda p: ops.exp(p + p).sum(), lambda p: grad((p * p * p).sum(), p).sum(),
]  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_a_parameter_outside_of_every_optimizer_may_change(use):
    frozen = Parameter(np.ones(3, "float32"))

    def hook(k):
        frozen.assign(np.full(3, {0: 1.0, 12: 1.5, 20: 2.0}.get(k, frozen.data[0])))

    assert not compared(lambda m: lambda x, r: -m.elbo(x, r).mean() * use(frozen), hook=hook).why


def second(update, **options):
    def loss(model):
        other = vae()
        optimizer = optim.SGD(other.parameters(), 1e-2, **options)

        def both(x, rng):
            value = -other.elbo(x, rng).mean()
            update(optimizer, grad(value, other.parameters()))
            return -model.elbo(x, rng).mean() + other.elbo(x, rng).mean().item() * 0.01

        return both

    return loss


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}])
def test_an_optimizer_within_the_loss_makes_one_step_a_step(options):
    assert "a kernel writes" in compared(second(lambda o, g: o.step(g), **options)).why


def test_a_product_into_an_array_of_the_callers_is_added_once_a_step():
    totals = []

    def loss(model):
        totals.append(np.zeros((D, D), "float32"))

        def f(x, rng, total=totals[-1]):
            kernels.matmul(x.T.copy(), x, out=total, accumulate=True)
            return -model.elbo(x, rng).mean()

        return f

    assert "a kernel writes" in compared(loss).why
    assert np.array_equal(*totals)


def test_a_copy_of_the_generator_draws_its_own_numbers():
    loss = lambda m: lambda x, r: -m.elbo(x, copy.deepcopy(r)).mean() - m.elbo(x, copy.copy(r)).mean()
    assert "a copy of the generator" in compared(loss).why


@pytest.mark.parametrize("name", ["A", "B"])
def test_with_the_blas_steps_stay_eager(name):
    before = kernels.matmul_backend()
    try:
        kernels.set_matmul_backend("blas")
        program = trained(CASES[name], True)
        equal(trained(CASES[name], False), program)
        assert "BLAS" in program[3].why
    finally:
        kernels.set_matmul_backend(before)


def test_another_backend_of_products_in_mid_run():
    before = kernels.matmul_backend()
    try:
        hook = lambda k: kernels.set_matmul_backend("blas" if 12 <= k < 20 else "jit")
        compared(lambda m: lambda x, r: -m.elbo(x, r).mean(), hook=hook)
    finally:
        kernels.set_matmul_backend(before)


# ----------------------------------------------------------------------------------------------------------- fit
def fitted(epochs, **options):
    model = vae()
    history = training.fit(
        model, lambda x, rng: -model.elbo(x, rng).mean(), optim.Adam(model.parameters()),
        np.concatenate([binary(np.random.default_rng(k)) for k in range(5)]), epochs=epochs, batch_size=50,
        rng=Generator(3), progress=False, **options,
    )  # fmt: skip
    return model.state_dict(), history


def test_fit_compiles_long_runs_and_resumes_them_to_the_bit(tmp_path, monkeypatch):
    weights, history = fitted(40)
    assert history.compiled > 150 and not history.why
    monkeypatch.setenv("MINIVI_EAGER", "1")
    eager, other = fitted(40)
    assert not other.compiled
    monkeypatch.delenv("MINIVI_EAGER")
    fitted(13, folder=tmp_path)
    resumed, again = fitted(40, folder=tmp_path, resume=True)
    for name, value in weights.items():
        assert value.tobytes() == eager[name].tobytes() == resumed[name].tobytes()
    assert [r["loss"] for r in history.records] == [r["loss"] for r in other.records]
    assert [r["loss"] for r in history.records] == [r["loss"] for r in again.records]


def test_something_that_changes_between_epochs_is_found_at_the_next():
    factor, seen = [1.0], {}
    for compiled in (False, True):
        model, _, optimizer, batch = elbo()
        step = Step(
            lambda x, rng, m=model: -m.elbo(x, rng).mean() * factor[0], optimizer, compiled=compiled, quiet=True
        )
        rng, stream, seen[compiled] = Generator(7), np.random.default_rng(8), []
        for epoch in range(3):
            factor[0] = 1.0 if epoch < 2 else 2.0
            step.check_again()
            seen[compiled] += [step(batch(stream), rng) for _ in range(10)]
    assert seen[False] == seen[True]
    assert step.compiled and "multiply" in step.why


# --------------------------------------------------------------------------------------------------------- trace
def test_a_recorded_array_is_an_ordinary_one_outside():
    a = np.arange(6.0).reshape(2, 3).view(Recorded)
    assert isinstance(a.sum(), np.generic) or a.sum() == 15.0
    assert a[1, 2] == 5.0 and float(a[0, 1]) == 1.0 and a.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [row.sum() for row in a] == [3.0, 12.0]


def test_one_trace_at_a_time_and_no_traces_left_behind():
    p = Tensor(np.ones(3))
    rng = Generator(0)
    with Trace(rng, []) as trace, pytest.raises(RuntimeError, match="another one is open"), Trace(rng, []):
        pass
    assert not trace.operations and type(p._data) is np.ndarray
    assert "standard_normal" not in vars(rng)
    with pytest.raises(RuntimeError, match="on purpose"), Trace(rng, []):
        raise RuntimeError("on purpose")
    assert "standard_normal" not in vars(rng) and type(rng.random(3)) is np.ndarray


def test_two_threads_train_at_once_and_get_their_own_bits():
    alone = trained(elbo, True)
    with ThreadPoolExecutor(2) as pool:
        for other in pool.map(lambda _: trained(elbo, True), range(4)):
            equal(alone, other)
            assert other[3].compiled == 25 - WARM_UP - 2


def test_operations_that_numpy_does_in_many_ways_are_done_again():
    """One loss that uses NumPy's functions and methods directly, on values that change."""

    def case():
        model = vae()

        def loss(x, rng):
            eps = rng.standard_normal((1, B, 3), dtype="float32")
            eps = np.where(eps > 2, np.float32(2), eps)
            eps = np.concatenate([eps[:, :30], eps[:, 30:].copy()], axis=1)
            eps = np.clip(eps, -2, 2) * np.ones_like(eps) + (np.flip(eps, -1) - np.flip(eps, -1))
            eps -= eps.mean(axis=1, keepdims=True)
            order = np.argsort(eps[0, :, 0])
            eps[0] = eps[0][order]
            moved = eps.swapaxes(0, 1).reshape(1, -1, 3).astype("float64").astype("float32")
            return -model.elbo(x, eps=moved).mean()

        return of(model, loss)

    eager, program = trained(case, False), trained(case, True)
    equal(eager, program)
    assert program[3].compiled == 25 - WARM_UP - 2, program[3].why


def test_what_numpy_gave_before_is_not_computed_again_unless_something_is_written_into_it():
    def noise(rng):
        eps, other = (rng.standard_normal((1, B, 3), dtype="float32") for _ in range(2))
        once, twice = other[..., ::-1].copy(), other[..., ::-1].copy()  # one copy
        near = np.multiply(once, np.float32(0.5)) - np.multiply(twice, np.float32(0.5))  # one product
        far = other * np.float32(-0.0) + other * np.float32(0.0)  # two: the signs of zeros differ
        kept, changed = eps.copy(), eps.copy()  # two, since one is written into
        changed *= 2
        before = eps[..., :1].copy()
        eps[..., 0] = 0  # and so the next copy is another one
        return kept + changed + near + far + before - eps[..., :1].copy() + twice

    def case():
        model = vae()
        return of(model, lambda x, rng: -model.elbo(x, eps=noise(rng)).mean())

    eager, program = trained(case, False), trained(case, True)
    equal(eager, program)
    assert program[3].compiled == 25 - WARM_UP - 2, program[3].why
    rng = Generator(0)
    with Trace(rng, []) as trace:
        noise(rng)
    names = Counter(o.name for o in trace.operations)
    names.subtract(o.name for o in _once(trace)[0])
    assert +names == {"copy": 1, "multiply": 1}


@pytest.mark.filterwarnings("ignore:.where. used without .out.")
def test_operations_with_other_constants_among_the_options_are_others():
    """Also where the constants look alike in print."""
    rng = Generator(0)
    with Trace(rng, []) as trace:
        x = rng.standard_normal((1, 2000), dtype="float32")
        for k in (900, 901):
            np.multiply(x, np.float32(2), where=np.arange(2000) == k)
    assert [o.name for o in _once(trace)[0]].count("multiply") == 2


def test_the_environment_can_keep_everything_eager():
    code = (
        "from minivi import Generator, optim; from minivi.models import VAE; from minivi.program import Step;"
        "import numpy as np; v = VAE(4, (5,), 2, rng=Generator(0));"
        "s = Step(lambda x, r: -v.elbo(x, r).mean(), optim.Adam(v.parameters())); r = Generator(1);"
        "[s(np.ones((6, 4), 'float32'), r) for _ in range(9)]; print(s.compiled)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"MINIVI_EAGER": "1"}
    )
    assert done.stdout.strip() == "0", done.stderr
    assert nn and ops
