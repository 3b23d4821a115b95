"""Trained models as files: every class comes back with its weights; what is no model of ours is told in one line."""

import json
import os
import re
import shlex

import numpy as np
import pytest
from helpers import empty_registry, no_own_data

import minivi
from minivi import Generator, cli, estimators, experiments, flows, generate, models, nn, optim, plots, training, weights
from minivi.distributions import Normal
from minivi.files import TrainingError, load_arrays, save_arrays
from minivi.models import directed, resnet
from minivi.site import pages

X = np.round(Generator(5).random((6, 16), dtype="float32"))


def resnet_parts(rng):
    parts = {"encoder": resnet.ResNetEncoder((4, 4, 1), 4, rng, maps=(2, 3), units=5)}
    parts["decoder"] = resnet.ResNetDecoder(2, (4, 4, 1), rng, maps=(2, 3), units=5)
    return models.VAE(16, latents=2, rng=rng, **parts)


def with_iaf(rng):
    made = nn.MADE(3, (6,), rng, outputs=2, context=2, ordering="random", degrees="random")
    chain = flows.Chain([flows.InverseAutoregressive(made), flows.Permutation([2, 0, 1]), flows.Planar(3, rng)])
    return models.VAE(16, (5,), 3, flow=chain, context=2, rng=rng, init=nn.normal(0.1))


MODELS = {
    "vae": lambda rng: models.VAE(16, (5,), 2, rng=rng, output_bias=nn.logit_of_mean(X)),
    "full": lambda rng: models.VAE(16, [5], 3, "gaussian", "relu", "full", rng=rng, dtype=np.float64),
    "astype": lambda rng: models.VAE(16, (5,), 2, rng=rng).astype("float64"),
    "iaf": with_iaf,
    "resnet": resnet_parts,
    "layered": lambda rng: models.LayeredVAE(16, [(5, 4), (3,)], [3, 2], rng=rng),
    "hamiltonian": lambda rng: models.HamiltonianVAE(16, (5,), 2, steps=2, reverse=4, rng=rng, init=nn.he),
    "belief": lambda rng: models.BeliefNetwork(16, (5, 4), [(3,), ()], rng=rng),
    "darn": lambda rng: models.BeliefNetwork(16, (5,), autoregressive=("prior", "pixels"), rng=rng),
    "m2": lambda rng: models.SemiSupervisedVAE(16, 3, (5,), 2, prior=np.array([0.2, 0.3, 0.5]), rng=rng),
    "resnet vae": lambda rng: models.ResNetVAE((4, 4, 1), 2, 4, 2, inference="bidirectional", flow_hidden=1, rng=rng),
    "auxiliary": lambda rng: directed.auxiliary(16, (5,), 2, 3, rng=rng),
    **{
        f"layers {inference}": lambda rng, inference=inference: directed.layers(
            16, [(5,), (4,)], [3, 2], inference, rng=rng
        )
        for inference in directed.INFERENCE
    },
    "full vb": lambda rng: models.FullVB(models.VAE(16, (5,), 2, rng=rng), 100, local=True),
    "classifier": lambda rng: models.Classifier(16, (5,), 3, hidden_dropout=0.1, rng=rng),
    "convolutions": lambda rng: models.ConvolutionalClassifier((4, 4, 1), (2, 3), (5,), 3, rng=rng),
    "dropout": lambda rng: models.dropout_network((16, 5, 3), "variational A", rng),
    "gaussian": lambda rng: models.gaussian_network((16, 5, 3), rng),
    "nice": lambda rng: flows.FlowDensity(
        flows.Chain([flows.AdditiveCoupling(16, (5,), rng), flows.AffineCoupling(16, (5,), rng), flows.Scaling(16)]),
        Normal(np.zeros(16, "float32"), np.zeros(16, "float32")),
    ),
    "made": lambda rng: nn.MADE(16, (9,), rng, ordering="random", masks=2),
}


def answer(model):
    """What a model says of X, with fixed noise."""
    rng = Generator(3)
    if isinstance(model, models.FullVB):
        return model.elbo(X, rng)
    if isinstance(model, models.SemiSupervisedVAE):
        return model.class_bounds(X, rng)
    if isinstance(model, nn.MADE):
        return model.log_prob(X, mask=1)
    if hasattr(model, "log_weights"):
        return model.log_weights(X.astype(model.dtype), rng, 2)
    return model.log_prob(X) if isinstance(model, flows.FlowDensity) else model(X).logits


@pytest.mark.parametrize("name", MODELS)
def test_every_model_comes_back_with_its_bits(name, tmp_path):
    model = MODELS[name](Generator(1))
    for p in model.parameters():  # no weight is what a new model would have
        p.assign(p.data + 0.01)
    if name in ("made", "darn"):  # those under masks are zero
        for part in [model] if name == "made" else [*model.encoder, *model.decoder]:
            part.apply_masks()
    minivi.save(tmp_path / "m.safetensors", model)
    again = minivi.load(tmp_path / "m.safetensors")
    assert type(again) is type(model) and repr(again) == repr(model)
    np.testing.assert_array_equal(np.asarray(answer(again)), np.asarray(answer(model)))
    assert again.recipe == model.recipe


def test_a_recipe_is_no_part_of_the_module():
    vae = MODELS["vae"](Generator(1))
    assert "recipe" not in vars(vae) and "init" not in json.dumps(vae.recipe)
    assert vae.detached().recipe == vae.recipe == vae.astype("float64").recipe


def trained(folder, model=None, **options):
    model = model or models.VAE(16, (5,), 2, rng=Generator(0))
    loss = lambda x, rng: -model.elbo(x, rng).mean()
    options = {"epochs": 2, "batch_size": 3, "rng": Generator(1), "progress": False} | options
    training.fit(model, loss, optim.Adam(model.parameters(), 0.01), X, folder=folder, **options)
    return model


def test_the_checkpoint_of_a_run(tmp_path):
    vae = trained(tmp_path / "a" / "b")
    for where in (tmp_path, tmp_path / "a" / "b", tmp_path / "a" / "b" / training.CHECKPOINT):
        np.testing.assert_array_equal(minivi.load(where).reconstruct(X), vae.reconstruct(X))


def test_the_best_weights_are_loaded(tmp_path):
    """Those that fit restores at its end, not the last ones."""
    values = iter([2.0, 1.0, 0.0])
    vae = trained(tmp_path, epochs=3, evaluate=lambda epoch: {"bound": next(values)}, monitor="bound")
    arrays, _ = load_arrays(tmp_path / training.CHECKPOINT)
    assert not np.array_equal(arrays["model.encoder.layers.0.weight"], vae.encoder.layers[0].weight.data)
    np.testing.assert_array_equal(minivi.load(tmp_path).reconstruct(X), vae.reconstruct(X))


def test_a_checkpoint_without_a_recipe_is_gone_on_from(tmp_path):
    """As those of earlier versions are; it cannot be loaded."""
    trained(tmp_path, epochs=1)
    arrays, about = load_arrays(tmp_path / training.CHECKPOINT)
    del about["recipe"]
    save_arrays(tmp_path / training.CHECKPOINT, arrays, about)
    with pytest.raises(TrainingError, match="does not say how its model is made; train it again"):
        minivi.load(tmp_path)
    vae = trained(tmp_path, resume=True)
    np.testing.assert_array_equal(vae.reconstruct(X), trained(None).reconstruct(X))


def test_of_a_trainer_its_model_is_loaded(tmp_path):
    network = models.BeliefNetwork(16, (4,), rng=Generator(1))
    minivi.save(tmp_path / "m.safetensors", estimators.NVIL(network, (5,), rng=Generator(2)))
    again = minivi.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(np.asarray(answer(again)), np.asarray(answer(network)))


class Foreign(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(2, 3, Generator(0))


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_what_is_no_model_of_the_library(tmp_path):
    path = tmp_path / "m.safetensors"
    minivi.save(path, Foreign())
    with pytest.raises(TrainingError, match="Foreign is not in minivi.models; build it yourself") as caught:
        minivi.load(path)
    one_line(caught)
    minivi.save(path, models.VAE(16, flow=flows.InverseAutoregressive(lambda z, h: (z, z)), rng=Generator(0)))
    with pytest.raises(TrainingError, match="an argument of it, .*<lambda>, is none that a file can hold"):
        minivi.load(path)


@pytest.mark.parametrize(
    "recipe",
    [
        {"class": "os.system", "arguments": ["echo"], "options": {}},
        {"class": "Generator", "arguments": [0], "options": {}},
        {"class": "VAE", "arguments": [16, {"class": "eval", "arguments": [], "options": {}}], "options": {}},
        {"class": "VAE", "arguments": [16], "options": {"encoder": {"name": "eval"}}},
        {"class": "VAE", "arguments": [10**15], "options": {"rng": {"generator": Generator(0).state}}},
        {"class": "Normal", "arguments": [0.0, 0.0], "options": {}},
        {"class": ["VAE"], "arguments": [], "options": {}},
        {"class": "VAE", "arguments": 3},
        {"class": "VAE"},
        {},
    ],
    ids=lambda recipe: json.dumps(recipe)[:50],
)
def test_a_recipe_names_nothing_but_the_closed_list(recipe, tmp_path):
    save_arrays(tmp_path / "m.safetensors", {"model.a": np.ones(2)}, {"recipe": recipe})
    with pytest.raises(TrainingError, match="cannot be made again") as caught:
        minivi.load(tmp_path / "m.safetensors")
    one_line(caught)


def test_weights_of_another_model(tmp_path):
    vae = MODELS["vae"](Generator(0))
    arrays = {f"model.{k}": v for k, v in vae.state_dict().items()}
    arrays.pop("model.encoder.layers.0.bias")
    save_arrays(tmp_path / "m.safetensors", arrays, {"recipe": vae.recipe})
    with pytest.raises(TrainingError, match="missing .'encoder.layers.0.bias'"):
        minivi.load(tmp_path / "m.safetensors")


# ------------------------------------------------------------------------------------------------ what they make
@pytest.mark.parametrize(
    "name", ["vae", "full", "iaf", "layered", "hamiltonian", "belief", "darn", "m2", "resnet vae", "full vb"]
)
def test_samples(name):
    made = generate.sample(MODELS[name](Generator(1)), 5, Generator(0))
    images = made.arrays["images"]
    assert images.shape == (5, 16) and np.isfinite(images).all() and not plots.problems(made.figure())
    assert images.std(axis=0).max() > 0


@pytest.mark.parametrize("name", ["vae", "full", "iaf", "resnet", "layered", "hamiltonian", "belief"])
def test_reconstructions_and_paths(name):
    model = MODELS[name](Generator(1))
    made = generate.reconstruct(model, X)
    if hasattr(model, "reconstruct"):
        np.testing.assert_array_equal(made.arrays["images"], model.reconstruct(X.astype(model.dtype)))
    assert made.arrays["images"].shape == X.shape and not plots.problems(made.figure())
    made = generate.interpolate(model, 3, Generator(0), X)
    assert made.arrays["images"].shape == (3, 9, 16)
    assert np.abs(np.diff(made.arrays["codes"], axis=1)).max(axis=2).min() > 0  # each path moves, each step
    ends = generate.codes(model, X)
    for z in made.arrays["codes"][:, [0, -1]].reshape(6, -1):  # a path begins and ends at a datum
        assert np.abs(ends - z).sum(axis=1).min() < 1e-6
    z = made.arrays["codes"]
    np.testing.assert_allclose(z[:, 4], (z[:, 0] + z[:, 8]) / 2, atol=1e-6)


def test_codes_of_m2_are_given_the_likeliest_class():
    model = MODELS["m2"](Generator(1))
    for p in model.parameters():  # its first weights are nearly zero, and every class the same
        p.assign(Generator(p.size).standard_normal(p.shape, dtype="float32"))
    x = np.round(Generator(6).random((200, 16), dtype="float32"))
    y = np.argmax(model.predict_proba(x), axis=1)
    assert len(set(y)) > 1
    np.testing.assert_array_equal(generate.codes(model, x), np.asarray(model.encode(x, y).mu))


@pytest.mark.parametrize("inference", directed.INFERENCE)
def test_a_graph_at_its_means(inference):
    """Against the pass itself, with noise of zeros."""
    model = MODELS[f"layers {inference}"](Generator(1))
    values = model.terms(X, eps={"z1": np.zeros((1, 6, 3), "float32"), "z2": np.zeros((1, 6, 2), "float32")}).values
    images, z = generate.reconstruct(model, X).arrays["images"], generate.embed(model, X).arrays["codes"]
    np.testing.assert_array_equal(images, np.asarray(values["p(x)"].mean)[0])
    np.testing.assert_array_equal(z, np.asarray(values["z1"])[0])
    assert np.abs(images - images[0]).max() > 1e-4


def test_paths_between_draws_of_the_prior():
    made = generate.interpolate(MODELS["vae"](Generator(1)), 2, Generator(0))
    assert made.arrays["codes"].shape == (2, 9, 2)
    with pytest.raises(TrainingError, match="another prior than N.0, I.; give --data"):
        generate.interpolate(MODELS["layered"](Generator(1)), 2, Generator(0))


@pytest.mark.parametrize("count", [499, 500, 501, 1000, 1001])
def test_all_rows_are_coded(count):
    """However many parts they are taken in."""
    vae = models.VAE(16, (5,), 2, rng=Generator(1))
    x = np.round(Generator(6).random((count, 16), dtype="float32"))
    np.testing.assert_allclose(generate.codes(vae, x), np.asarray(vae.encode(x).mu), rtol=1e-5, atol=1e-6)
    assert generate.reconstruct(vae, x).arrays["images"].shape == (count, 16)


@pytest.mark.parametrize("latents", [1, 2, 5])
def test_codes(latents):
    vae = models.VAE(16, (5,), latents, rng=Generator(1))
    made = generate.embed(vae, X, np.array([0, 1, 2, 0, 1, 2]))
    np.testing.assert_array_equal(made.arrays["codes"], np.asarray(vae.encode(X).mu))
    assert not plots.problems(made.figure())


@pytest.mark.parametrize(
    ("name", "verb", "message"),
    [
        ("classifier", "sample", "a Classifier cannot sample; it can only be loaded, by minivi.load"),
        ("m2", "reconstruct", "a SemiSupervisedVAE cannot reconstruct; it can sample, embed"),
        ("auxiliary", "interpolate", "a DirectedVAE cannot interpolate; it can sample, reconstruct, embed"),
    ],
)
def test_what_a_model_cannot_do(name, verb, message):
    with pytest.raises(TrainingError, match=message):
        getattr(generate, verb)(MODELS[name](Generator(1)), X, *[Generator(0)] * (verb in ("sample", "interpolate")))


# ------------------------------------------------------------------------------------------------ the command line
CHAPTER = """
from minivi import data
from minivi.experiments import experiment
from minivi.models import VAE
from minivi.optim import Adam
from minivi.random import Generator
BUDGETS = {b: {'data': 'digits', 'epochs': 1, 'rate': 0.01, 'sizes': [3, 4], 'names': ('a',), 'ends': {'a': 1, 'b': 1},
               'way': 'up', 'any': None}
           for b in ('quick', 'laptop', 'paper')}
MINUTES = {'quick': 0.1, 'laptop': 0.1, 'paper': 0.1}
@experiment('many', title='several', mirrors='', budgets=BUDGETS, minutes=MINUTES)
@experiment('one', title='one', mirrors='', budgets=BUDGETS, minutes=MINUTES)
def one(run):
    images = run.images()
    def start():
        vae = VAE(images.train.shape[1], (5,), 2, rng=Generator(run.seed))
        return vae, lambda x, rng: -vae.elbo(x, rng).mean(), Adam(vae.parameters(), run.settings.rate)
    options = dict(epochs=run.settings.epochs, rng=Generator(1), prepare=data.fresh)
    for seed in range(1 + (run.experiment.name == 'many')):
        for _ in range(2):  # the second time it is there
            run.train(f'model{seed}', start, images.train, **options)
    return {}
@experiment('none', title='trains nothing', mirrors='', budgets=BUDGETS, minutes=MINUTES)
def none(run):
    return {}
@one.table
def _(n, table): table.row('epochs', n.settings.epochs)
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder for the runs of a chapter that trains small models."""
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "ch99_small.py").write_text('"""Small models."""\n' + CHAPTER)
    monkeypatch.setenv("MINIVI_CHAPTERS", str(tmp_path / "chapters"))
    no_own_data(monkeypatch)
    monkeypatch.chdir(tmp_path)
    empty_registry(monkeypatch)
    return tmp_path / "runs"


def run(capsys, *words):
    status = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_commands_on_what_a_run_left(runs, capsys):
    assert run(capsys, "run", "ch99_small.one", "--quiet")[0] == 0
    (checkpoint,) = runs.rglob(training.CHECKPOINT)
    vae = minivi.load("ch99_small.one")
    digits = minivi.data.load("digits")
    for words, name, expected in [
        (["reconstruct", "ch99_small.one"], "r.npy", vae.reconstruct(digits.test[:32])),
        (["reconstruct", checkpoint, "--count", 3], "r.npy", vae.reconstruct(digits.test[:3])),
        (["embed", checkpoint.parent], "e.npy", np.asarray(vae.encode(digits.test).mu)),
        (["sample", "ch99_small.one", "--count", 4, "--seed", 2], "s.npy", vae.sample(4, Generator(2))[0]),
    ]:
        status, out, err = run(capsys, *words, "--out", name)
        assert status == 0 and out.startswith(f"{name}: "), err
        np.testing.assert_array_equal(np.load(name), expected)
    assert run(capsys, "interpolate", "ch99_small.one", "--out", "i.npz", "--count", 2)[0] == 0
    with np.load("i.npz") as file:
        assert file["images"].shape == (2, 9, 64) and file["codes"].shape == (2, 9, 2)
        assert np.abs(np.diff(file["codes"], axis=1)).max(axis=(1, 2)).min() > 1e-4  # between two data
        ends = np.asarray(vae.encode(digits.test).mu)
        for z in file["codes"][:, [0, -1]].reshape(4, 2):
            assert np.abs(ends - z).sum(axis=1).min() < 1e-5
    for verb in cli.GENERATES:
        assert run(capsys, verb, "ch99_small.one")[0] == 0
        with open(f"{verb}.png", "rb") as file:
            assert file.read(4) == b"\x89PNG"


def test_experiments_that_share_a_model_each_name_it(runs, capsys):
    assert run(capsys, "run", "ch99_small", "--quiet")[0] == 0
    paths = [
        json.loads((runs / f"ch99_small_{name}.json").read_text()).get("weights") for name in ("one", "many", "none")
    ]
    assert len(paths[0]) == 1 and len(paths[1]) == 2 and set(paths[0]) < set(paths[1]) and paths[2] is None
    assert all((runs / path).is_file() for path in paths[1])
    assert run(capsys, "sample", "ch99_small.many:model1")[0] == 0
    assert weights.locate("ch99_small.many:model1") == weights.Path("runs", paths[1][1])
    for words, message in [
        (
            ["sample", "ch99_small.many:model"],
            "ch99_small.many:model has 2 models; give one of runs/ch99_small/model0-",
        ),
        (["sample", "ch99_small.one:model1"], "no model of ch99_small.one in runs has 'model1' in its folder's name"),
        (["sample", "ch99_small.many"], "ch99_small.many has 2 models; give one of runs/ch99_small/model0-"),
        (["sample", "ch99_small.none"], "the run of ch99_small.none in runs left no weights"),
        (["sample", "ch99_small.one", "--runs", "elsewhere"], "elsewhere has no run of ch99_small.one; `minivi run"),
        (["sample", "ch99_small.on"], "no experiment 'ch99_small.on'; did you mean ch99_small.one"),
        (["sample", "no/file.safetensors"], "no file or folder no/file.safetensors"),
        (["sample", "chapters"], "chapters holds no weights"),
        (["sample", "ch99_small.one", "--out", "a.gif"], "a.gif: unknown ending; give a file .png, .npz or .npy"),
        (["embed", "ch99_small.one", "--data", "polarity"], "polarity holds texts, not images"),
        (["embed", "ch99_small.one", "--data", "own.npz"], "a VAE of 64 pixels, and data of 9; give --data of its own"),
    ]:
        np.savez("own.npz", train=np.zeros((20, 3, 3)))
        status, _, err = run(capsys, *words)
        assert status and message in err and err.count("\n") == 1, err


def test_what_shared_models_cost_is_told(runs, capsys):
    """Of the model that two experiments take, the second one's JSON says what the first one spent on it."""
    assert run(capsys, "run", "ch99_small", "--quiet", "--set", "epochs=200")[0] == 0
    first, second = (json.loads(next(runs.glob(f"ch99_small_{name}_*.json")).read_text()) for name in ("one", "many"))
    assert "shared_cpu_seconds" not in first and first["cpu_seconds"] >= 0.2
    assert 0.5 * first["cpu_seconds"] <= second["shared_cpu_seconds"] <= first["cpu_seconds"]


def test_a_file_that_no_run_names_needs_data(runs, capsys):
    minivi.save("vae.safetensors", models.VAE(64, (5,), 2, rng=Generator(0)))
    status, _, err = run(capsys, "embed", "vae.safetensors")
    assert status == 2 and "no run says what data it is of; give --data" in err
    assert run(capsys, "embed", "vae.safetensors", "--data", "digits")[0] == 0
    assert run(capsys, "interpolate", "vae.safetensors")[0] == 0  # between draws of the prior


# ------------------------------------------------------------------------------------------------ other settings
def test_other_settings_are_told_and_kept_apart(runs, capsys):
    assert run(capsys, "run", "ch99_small.one", "--quiet")[0] == 0
    plain = (runs / "ch99_small_one.json").read_bytes()
    for _ in range(2):  # with and without a result that is there already
        status, out, err = run(capsys, "run", "ch99_small.one", "--quiet", "--set", "epochs=2", "--set", "rate=1e-3")
        assert status == 0 and "budget quick, epochs = 2, rate = 0.001" in out, err
        changed = json.loads((runs / "ch99_small_one_quick_digits_seed0_epochs2_rate0.001.json").read_text())
        assert changed["changes"] == {"epochs": 2, "rate": 0.001} and changed["settings"]["epochs"] == 2
        assert changed["table"][0]["ours"] == 2
        if (runs / "ch99_small_one.json").exists():
            assert (runs / "ch99_small_one.json").read_bytes() == plain
            (runs / "ch99_small_one.json").unlink()
    assert not (runs / "ch99_small_one.json").exists()  # nothing takes the place of the budget's own
    _, out, _ = run(capsys, "results", runs)
    assert "(budget quick, digits, epochs = 2, rate = 0.001, seed 0" in out
    page = experiments.write_page(runs).read_text()
    for shown in (page, pages.gallery_page(pages.gallery(runs), {})):
        assert "minivi run ch99_small.one --budget quick --set epochs=2 --set rate=0.001`" in shown
    (path,) = runs.glob("*.json")
    assert run(capsys, "redraw", path)[0] == 0 and list(runs.glob("*.json")) == [path]
    assert json.loads(path.read_text())["changes"] == {"epochs": 2, "rate": 0.001}


def test_the_command_of_a_result_can_be_run_again(runs, capsys):
    words = ["--set", 'names=["b", "it\'s"]', "--set", 'ends={"a": 2}', "--set", "way=1", "--set", "sizes=[5, 6]"]
    assert run(capsys, "run", "ch99_small.none", "--seed", 3, *words)[0] == 0
    (path,) = runs.glob("*.json")
    before = json.loads(path.read_text())
    assert before["changes"] == {"names": ["b", "it's"], "ends": {"a": 2, "b": 1}, "way": "1", "sizes": [5, 6]}
    (command,) = re.findall(r"`minivi (run ch99_small.none .*?)`", experiments.write_page(runs).read_text())
    path.unlink()
    assert run(capsys, *shlex.split(command))[0] == 0
    assert json.loads(path.read_text())["settings"] == before["settings"]


def test_two_long_changes_are_two_files(runs, capsys):
    for size in (5, 6):
        assert run(capsys, "run", "ch99_small.none", "--set", f"sizes={[size] * 40}")[0] == 0
    assert len(list(runs.glob("ch99_small_none_quick_digits_seed0_*.json"))) == 2


def test_a_run_with_other_settings_goes_on_from_its_own_checkpoint(runs, capsys):
    assert run(capsys, "run", "ch99_small.one", "--quiet")[0] == 0
    _, out, _ = run(capsys, "run", "ch99_small.one", "--quiet", "--resume", "--set", "rate=0.5")
    assert "no checkpoint of these settings, only of others" in out
    _, out, _ = run(capsys, "run", "ch99_small.one", "--quiet", "--resume", "--set", "rate=0.5")
    assert "no checkpoint" not in out and "as before" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch=2", "no setting 'epoch' at quick to change; there are any, ends, epochs, names, rate, sizes, way"),
        ("data=mnist", "no setting 'data' at quick to change; say --data for that"),
        ("epochs", "--set epochs: write it as NAME=VALUE"),
        ("epochs=2.5", "epochs = 2.5 is not of the kind of its present value, 1; give one such"),
        ("epochs=-1", "epochs = -1 is not of the kind of its present value, 1; give one such"),
        ("epochs=true", "epochs = True is not of the kind"),
        ("epochs=many", "epochs = 'many' is not of the kind"),
        ("rate=fast", "rate = 'fast' is not of the kind"),
        ("rate=true", "rate = True is not of the kind"),
        ("rate=NaN", "rate = nan: give finite numbers"),
        ("rate=-Infinity", "rate = -inf: give finite numbers"),
        ("rate=1e999", "rate = inf: give finite numbers"),
        ("sizes=[3, NaN]", "sizes = [3, nan]: give finite numbers"),
        ('ends={"a": NaN}', "ends = {'a': nan}: give finite numbers"),
        ("any=NaN", "any = nan: give finite numbers"),
        ("sizes=3", "sizes = 3 is not of the kind"),
        ('sizes=[3, "x"]', "is not of the kind"),
        ('ends={"a": "b"}', "is not of the kind"),
        ('ends={"c": 1}', "is not of the kind of its present value, {'a': 1, 'b': 1}; give one such"),
        ("ends=many", "is not of the kind"),
    ],
)
def test_settings_are_checked(runs, capsys, text, message):
    status, _, err = run(capsys, "run", "ch99_small.one", "--set", text)
    assert status == 2 and message in err and err.count("\n") == 1
    assert not runs.exists()  # known before the work


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rate=1", 1.0),
        ("sizes=[5]", [5]),
        ('names=["b", "c"]', ("b", "c")),
        ('ends={"a": 2}', {"a": 2, "b": 1}),
        ("ends=3", {"a": 3, "b": 3}),
        ("epochs=0", 0),
        ("way=1", "1"),
        ("way=true", "true"),
        ("way=NaN", "NaN"),
        ("way=up", "up"),
        ('way="up"', "up"),
        ("any=2", 2),
    ],
)
def test_values_take_the_kind_of_the_budgets(runs, text, value):
    (entry,) = experiments.find("ch99_small.one")
    name, _, value_text = text.partition("=")
    found = experiments.runner.changed(entry, "quick", {name: value_text})[name]
    assert found == value and type(found) is type(value)


def test_committed_results_are_of_the_budgets_own():
    for path in sorted((weights.Path(minivi.__file__).parents[1] / "figures").rglob("*.json")):
        about = json.loads(path.read_text())
        assert not {"changes", "own_data"} & about.keys(), path


# ------------------------------------------------------------------------------------------------ own data
def test_a_run_on_own_data(runs, capsys):
    faces = np.round(Generator(8).random((30, 4, 5)) * 255).astype(np.uint8)
    np.savez("my faces.npz", train=faces, test=faces[:7], test_labels=np.arange(7))
    status, _, err = run(capsys, "run", "ch99_small.one", "--quiet", "--data", "my faces.npz")
    assert status == 0, err
    (path,) = runs.glob("*.json")
    about = json.loads(path.read_text())
    assert about["settings"]["data"].startswith("my_faces-") and about["own_data"]["path"].endswith("my faces.npz")
    assert run(capsys, "embed", "ch99_small.one", "--out", "e.npz")[0] == 0
    with np.load("e.npz") as file:
        assert file["codes"].shape == (7, 2) and (file["labels"] == np.arange(7)).all()
    np.savez("my faces.npz", train=faces + 1)  # other images of the same file are another set
    assert run(capsys, "run", "ch99_small.one", "--quiet", "--data", "my faces.npz")[0] == 0
    names = {json.loads(path.read_text())["settings"]["data"] for path in runs.glob("*.json")}
    assert len(names) == 2
    status, _, err = run(capsys, "run", "ch99_small.one", "--data", "no.npz")
    assert status == 1 and "no.npz: " in err and err.count("\n") == 1
    assert json.loads(os.environ["MINIVI_OWN_DATA"])[-1].endswith("my faces.npz")


def test_own_data_that_changed_are_not_taken_for_those_of_the_run(runs, capsys):
    faces = np.round(Generator(8).random((30, 4, 5)) * 255).astype(np.uint8)
    np.savez("faces.npz", train=faces)
    assert run(capsys, "run", "ch99_small.one", "--quiet", "--data", "faces.npz")[0] == 0
    assert run(capsys, "sample", "ch99_small.one", "--out", "before.png")[0] == 0
    np.savez("faces.npz", train=faces[::-1])
    for verb in ("reconstruct", "embed", "interpolate"):
        status, _, err = run(capsys, verb, "ch99_small.one")
        assert status == 1 and err.count("\n") == 1
        assert "faces.npz has changed since the run; give --data " in err and "to take it as it is" in err
        assert run(capsys, verb, "ch99_small.one", "--data", "faces.npz")[0] == 0
    os.remove("faces.npz")
    status, _, err = run(capsys, "embed", "ch99_small.one")
    assert status == 1 and "faces.npz: " in err and err.count("\n") == 1
    status, _, err = run(capsys, "sample", "ch99_small.one")  # whose picture's shape is known without them
    assert status == 0, err
    assert weights.Path("sample.png").read_bytes() == weights.Path("before.png").read_bytes()


def test_samples_need_no_data(runs, capsys, monkeypatch):
    assert run(capsys, "run", "ch99_small.one", "--quiet")[0] == 0
    monkeypatch.setattr(minivi.data, "load", lambda *args: 1 / 0)
    status, _, err = run(capsys, "sample", "ch99_small.one")
    assert status == 0, err
