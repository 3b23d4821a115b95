"""What chapter 5's comparisons of posteriors rest on: variants that begin alike and differ in one thing."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import study

from minivi import evaluation
from minivi.experiments import Run, outcome
from minivi.experiments.results import Table
from minivi.flows import InverseAutoregressive, Reversal
from minivi.random import Generator
from minivi.training import TrainingError

chapter, shared = study("ch05_iaf.posteriors"), study("ch05_iaf._shared")

SETTINGS = SimpleNamespace(**chapter.QUICK | {"hidden": [12], "latents": 5, "context": 3})
TRAIN = (Generator(0).random((50, 20)) < 0.3).astype(np.float32)
SPECS = {**chapter.GAUSSIAN, **chapter.PLANAR, "IAF": shared.iaf(2, 9)}
VARIANTS = {chapter.BASE: {}, **chapter.VARIANTS}


def model(spec, seed=1):
    return shared.new_model(SETTINGS, spec, TRAIN, seed)


def test_posteriors_begin_with_the_same_networks():
    """The decoder and the encoder's first layer are those of the same seed, whatever the posterior, and of it alone."""
    models = [model(s) for s in SPECS.values()]
    decoders = [m.decoder.state_dict() for m in models]
    for m, state in zip(models, decoders, strict=True):
        assert all(np.array_equal(value, decoders[0][name]) for name, value in state.items())
        np.testing.assert_array_equal(m.encoder.layers[0].weight.data, models[0].encoder.layers[0].weight.data)
    other = model(SPECS["IAF"], seed=2).decoder.state_dict()
    assert any(not np.array_equal(value, decoders[0][name]) for name, value in other.items())


def test_variants_differ_in_one_thing():
    """By form, bias, reversals and weights of each variant's flow."""
    flows = {name: model(shared.iaf(4, 9, **change)).flow.flows for name, change in VARIANTS.items()}
    steps = {name: [f for f in chain if isinstance(f, InverseAutoregressive)] for name, chain in flows.items()}
    assert all(len(found) == 4 for found in steps.values())
    reversals = {name: sum(isinstance(f, Reversal) for f in chain) for name, chain in flows.items()}
    assert {name for name, count in reversals.items() if count != 3} == {"order kept"} and reversals["order kept"] == 0
    assert {name: step[0].form for name, step in steps.items() if step[0].form != "gated"} == {
        "no gate": "affine", "no gate, from rest": "affine", "location only": "location",
    }  # fmt: skip
    biases = {name: step[0].gate_bias for name, step in steps.items() if step[0].form == "gated"}
    assert biases == {"gate, bias 2": 2.0, "gate, bias 1": 1.0, "gate, bias 0": 0.0, "order kept": 2.0}
    first = steps[chapter.BASE]
    for name, found in steps.items():
        for step, base in zip(found, first, strict=True):
            same = [np.array_equal(p.data, q.data) for p, q in zip(step.parameters(), base.parameters(), strict=True)]
            assert all(same) == (name != "no gate, from rest")


def test_from_rest_is_the_identity():
    flow = model(shared.iaf(4, 9, **chapter.VARIANTS["no gate, from rest"])).flow
    z, h = Generator(3).standard_normal((6, 5), dtype="float32"), Generator(4).standard_normal((6, 3), dtype="float32")
    image, log_det = flow.forward(z, h)
    np.testing.assert_array_equal(np.asarray(image), z[:, ::-1])  # reversed three times
    np.testing.assert_array_equal(np.asarray(log_det), 0.0)


def test_published_losses_of_table_5_b_1():
    """Location alone: worst against location and scale at 3.45 and 3.42; mean gains 0.065 and 0.085."""
    assert chapter.LOCATION_LOSS == pytest.approx(3.45 / 3.42 - 1)
    assert chapter.LOCATION_KEEPS == pytest.approx((0.06 + 0.08 + 0.06 + 0.06) / (0.07 + 0.11 + 0.06 + 0.10))


def test_compare_adds_the_errors_of_images_and_seeds():
    def scores(values):
        return SimpleNamespace(bound=evaluation.Estimate(np.mean(values), 0.0, 0.0, np.array(values)))

    a, b = [scores([1.0, 3.0]), scores([2.0, 4.0])], [scores([0.0, 0.0]), scores([0.0, 0.0])]
    mean, error = shared.compare(a, b, "bound")  # of images 1.5 and 3.5; of seeds 2 and 3
    assert mean == 2.5 and error == pytest.approx(np.hypot(1.0, 0.5))
    table = Table()
    for pair in ((a, b), (b, a)):
        shared.above(table.says(*shared.BETTER, seeds=2), shared.compare(*pair, "bound"), "")
    assert [claim.verdict for claim in table.claims] == ["holds", "does not hold"]  # 2.5 is above 2 * 1.12
    assert [claim.ok for claim in table.claims] == [True, False]
    assert table.claims[0].standard_error == pytest.approx(error)


def test_only_a_loss_that_became_infinite_counts_as_broken_off():
    def fail(message):
        raise TrainingError(message)

    assert chapter.unless_broken(lambda: 3) == 3
    assert chapter.unless_broken(lambda: fail("the loss became nan: ...")) is None
    with pytest.raises(TrainingError, match="checkpoint"):
        chapter.unless_broken(lambda: fail("x is not a whole minivi checkpoint"))


def test_variants_that_break_off_are_counted_and_left_out(tmp_path, monkeypatch):
    """One seed without a gate, and all from rest: table and picture do with the others, as after a passage by JSON."""

    def scores(run, s, sets, spec, seed):
        if spec.get("form") == "affine" and (seed == 0 or "rest" in spec):
            raise TrainingError("the loss became inf: ...")
        values = Generator([seed, len(str(spec))]).standard_normal(6)
        one = evaluation.Estimate(values.mean(), 0.1, 0.0, values)
        return SimpleNamespace(bound=one, log_p=one, gap=one)

    monkeypatch.setattr(chapter, "scores", scores)
    result, about = outcome(chapter.details, Run(chapter.details, "quick", None, 0, tmp_path, False, False, {}))
    broken = {row.what: row.ours for row in result.rows if row.what.endswith("broke off")}
    assert broken == {"no gate, runs that broke off": 1, "no gate, from rest, runs that broke off": 2}
    assert len(about["differences by seed"]["no gate"]) == 1
    assert [t.get_text() for t in result.figures[""].axes[0].get_yticklabels()] == list(about["differences"])
    assert "no gate, from rest" not in about["differences"]


def test_training_uses_the_data_and_is_shared(tmp_path):
    """One fit a posterior and seed; the second call finds it."""
    entry = SimpleNamespace(chapter="ch05_iaf", budgets={"quick": {}})
    run = Run(entry, "quick", None, 0, tmp_path, False, False, {})
    sets = SimpleNamespace(name="made_up", train=TRAIN, test=TRAIN[:10], prepare=None)
    settings = SimpleNamespace(**vars(SETTINGS) | {"epochs": 2, "batch": 25, "samples": 8})
    first = shared.scores(run, settings, sets, SPECS["IAF"], 0)
    assert shared.scores(run, settings, sets, SPECS["IAF"], 0) is first
    assert first.gap.mean == pytest.approx(first.log_p.mean - first.bound.mean)
    assert len(list((tmp_path / "ch05_iaf").iterdir())) == 1
