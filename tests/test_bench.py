"""`minivi bench`: contestants compute the same thing, and the report says what was measured. No time is asserted."""

import argparse
import json
import subprocess
import sys

import numpy as np
import pytest

from minivi import bench
from minivi.bench import in_minivi, in_numpy, worker
from minivi.bench.workloads import workloads

SMALL = workloads(small=True)


def arguments(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(["--small", "--rounds", "2", "--seconds", "0.002", *words])


@pytest.mark.parametrize("name", [name for name, w in SMALL.items() if w.family in in_numpy.about()["families"]])
def test_minivi_and_numpy_compute_the_same(name):
    """Over three steps with the same noise: values of forward, backward and update."""
    w = SMALL[name]
    batches = w.batches()
    values = []
    for module in (in_minivi, in_numpy):
        step = module.build(w)
        values.append([w.value(np.asarray(step(batches[0], w.fixed_noise()))) for _ in range(3)])
    np.testing.assert_allclose(values[0], values[1], rtol=w.tolerance)
    if w.family in in_numpy.MODELS:
        assert values[0][0] > values[0][1] > values[0][2], "training makes the loss smaller"


@pytest.mark.parametrize("name", in_numpy.MODELS)
def test_hand_written_gradients(name):
    """NumPy's own backward passes, which nothing else differentiates, along a random direction in float64."""
    w = SMALL[name]
    noise, batch = [e.astype(float) for e in w.fixed_noise()], w.batches()[0]
    more = {"masks": w.masks()} if name in ("made", "iaf") else {}
    rng = np.random.default_rng(1)
    # away from relu's kink, on which zero biases put units without a one among their inputs
    p = [[a + 0.1 * rng.standard_normal(a.shape) for a in layer] for layer in w.parameters()]
    v = [[rng.standard_normal(a.shape) for a in layer] for layer in p]
    loss = lambda h: in_numpy.MODELS[name](
        w, [[a + h * d for a, d in zip(*pair, strict=True)] for pair in zip(p, v, strict=True)], noise, *batch, **more
    )
    directions = [d for layer in v for d in layer]
    slope = sum(np.sum(g * d) for g, d in zip(loss(0.0)[1], directions, strict=True))
    h = 1e-6
    np.testing.assert_allclose((loss(h)[0] - loss(-h)[0]) / (2 * h), slope, rtol=1e-6)


def test_workloads_are_as_described():
    full = workloads()
    assert bench.FAMILIES == ["vae", "iwae50", "made", "iaf", "vdropout", "m2", "cnn", "adam", "gemm", "rng"]
    assert list(bench.FAMILIES) == list(dict.fromkeys(w.family for w in SMALL.values()))
    # two products in a first layer, three in the others, 2 operations each
    assert full["vae"].flops == 2 * 100 * (2 * 784 * 500 + 3 * (500 * 40 + 20 * 500 + 500 * 784))
    assert full["iwae50"].flops == 40 * (2 * 784 * 200 + 3 * 200 * 300) + 2000 * 3 * (50 * 200 + 200 * 200 + 200 * 784)
    chain = 4 * 3 * ((32 + 64) * 320 + (320 + 64) * 320 + (320 + 64) * 64)
    assert full["iaf"].flops == 200 * (2 * 784 * 450 + 3 * (450 * 128 + 32 * 450 + 450 * 784) + chain)
    x = np.array([x for (x,) in full["made"].batches()])
    assert x.shape == (100, 100, 784) and set(np.unique(x)) == {0, 1} and abs(x.mean() - 0.13) < 0.001
    first, last = full["made"].masks()
    paths = first @ last  # from pixel (row) to logit (column): each logit sees earlier pixels alone, the nearest too
    assert not np.tril(paths).any() and np.diagonal(paths[:500], 1).all()
    first, second, last = full["iaf"].masks()
    paths = first @ second @ last  # from latent (row) to m and s of each (columns in pairs)
    seen = np.repeat(np.triu(np.ones((32, 32)), 1), 2, axis=1)
    assert np.array_equal(paths > 0, seen > 0)
    assert [w.shape for w in full.values() if w.family == "gemm"][-1] == (2048, 2048, 2048)


def test_compare_made_up_timings():
    found = bench.compare({"minivi": [1.0, 2.0, 4.0], "numpy": [3.0, 4.0, 20.0]})
    assert found["minivi"] == {"ms": {"median": 2, "min": 1, "max": 4}, "ratio": {"median": 1, "min": 1, "max": 1}}
    # round by round 3, 2 and 5: neither the ratio of the medians (2) nor that of the extremes
    assert found["numpy"] == {"ms": {"median": 4, "min": 3, "max": 20}, "ratio": {"median": 3, "min": 2, "max": 5}}
    assert bench.compare({"numpy": [3.0]})["numpy"]["ratio"] is None


def test_the_whole_thing(tmp_path, capsys, monkeypatch):
    out = tmp_path / "new" / "bench.json"
    for pin in bench.PINS:  # such as a machine of many kinds of host sets them
        monkeypatch.delenv(pin, raising=False)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    words = ["--only", "rng,gemm,vae", "--peers", "numpy", "--threads", "1", "--out", str(out)]
    assert bench.run(arguments(*words)) == 0
    text, report = capsys.readouterr().out, json.loads(out.read_text())
    assert "removed for the peers: OPENBLAS_CORETYPE=Haswell" in text and report["pins"] == {
        "OPENBLAS_CORETYPE": "Haswell"
    }
    chosen = [name for name, w in SMALL.items() if w.family in ("vae", "gemm", "rng")]
    pairs = [(name, contestant) for name in chosen for contestant in ("minivi", "numpy")]
    assert [(row["workload"], row["contestant"]) for row in report["results"]] == pairs
    assert report["failures"] == [] and all(row["agrees"] for row in report["results"])
    assert report["environment"]["threads"] == 1 and report["versions"]["numpy"]["numpy"] == np.__version__
    lines = text.splitlines()
    assert report["environment"]["cpu"] in lines[0]
    for row in report["results"]:
        assert len(row["rounds_ms"]) == 2 and row["ms"] == bench.spread(row["rounds_ms"]) and row["ms"]["min"] > 0
        shown = f"{row['workload'].partition(' ')[2]} {row['contestant']}".strip()
        cells = [line.removeprefix(shown).split() for line in lines if line.startswith(shown + " ")]
        numbers = [f"{row['ms']['median']:.4g}", f"{row['ratio']['median']:.2f}", f"{row['values'][0]:.6g}"]
        assert any(all(number in own for number in numbers) for own in cells), f"{shown}: {numbers} not in the table"
    vae = [row for row in report["results"] if row["workload"] == "vae"]
    assert all(row["gflops"] == pytest.approx(SMALL["vae"].flops / row["ms"]["median"] / 1e6) for row in vae)
    assert all(row["of_peak"] == pytest.approx(row["gflops"] / report["gemm_peak_gflops"]["1"]) for row in vae)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "vae,mae"], f"bench: no workload 'mae'; there are {', '.join(bench.FAMILIES)}"),
        (
            ["--peers", "tensorflow"],
            "bench: no peer 'tensorflow'; there are minivi-eager, numpy, torch, torch-compile, jax, autograd",
        ),
        (["--peers", ""], "bench: no peer ''"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--threads", "0"], "--threads 0"),
        (["--only", "rng", "--peers", "numpy", "--python", "/no/python"], "--python /no/python: No such file"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, words, message):
    with pytest.raises(bench.BenchError) as caught:
        bench.run(arguments("--out", str(tmp_path / "bench.json"), *words))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_peer_is_given(monkeypatch):
    """The same threads for all; pins taken from the peers, and their allocator set, unless asked otherwise."""
    started = []

    def start(command, env, **more):
        started.append((command, env))
        raise OSError(2, "not started")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    for name, pins in [("minivi", False), ("numpy", False), ("numpy", True)]:
        with pytest.raises(bench.BenchError, match="not started"):
            bench.Worker(name, 3, "peers-python", pins)
    assert [command[0] for command, _ in started] == [sys.executable, "peers-python", "peers-python"]
    environments = [env for _, env in started]
    assert all(env[name] == "3" for env in environments for name in bench.THREAD_COUNTS)
    assert ["OPENBLAS_CORETYPE" in env for env in environments] == [True, False, True]
    assert [env.get("JAX_PLATFORMS") for env in environments[1:]] == ["cpu", "cpu"]


def test_limited_to_avx2(tmp_path, capsys, monkeypatch):
    """Every process, minivi's too, leaves AVX-512 alone, and the table says so."""
    from minivi.kernels import jit

    words = ["--only", "adam", "--peers", "numpy", "--threads", "1", "--isa", "avx2", "--rounds", "1"]
    monkeypatch.setattr(jit, "FEATURES", "+avx")
    with pytest.raises(bench.BenchError, match="wants a CPU with AVX2; leave the option out"):
        bench.run(arguments("--out", str(tmp_path / "bench.json"), *words))
    monkeypatch.undo()
    if "+avx2" not in jit.FEATURES.split(","):
        pytest.skip("about AVX2, which this CPU does not have")
    assert bench.run(arguments("--out", str(tmp_path / "bench.json"), *words)) == 0
    text, report = capsys.readouterr().out, json.loads((tmp_path / "bench.json").read_text())
    assert "limited to avx2: ATEN_CPU_CAPABILITY, " in text and report["settings"]["isa"] == "avx2"
    assert report["versions"]["minivi"]["instruction_set"] == "avx2"
    assert report["set_for_all"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert not [f for f in report["set_for_all"]["NUMBA_CPU_FEATURES"].split(",") if f.startswith("+avx512")]


def serve(name, *requests):
    answers = []
    worker.serve(name, map(json.dumps, requests), answers.append)
    return answers


def test_worker_answers_errors_and_goes_on():
    setup = {"setup": "made", "small": True}
    first, unknown, early, about, slice_ = serve(
        "numpy", {"setup": "mae", "small": True}, {"seconds": 1}, setup, {"seconds": 0}
    )
    assert "made" in first["families"] and first["versions"]["numpy"] == np.__version__
    assert unknown == {"error": "KeyError: 'mae'"} and "error" in early
    assert len(about["values"]) == 2 and slice_["steps"] >= 1 and slice_["ms"] > 0


def test_missing_library(monkeypatch, tmp_path):
    """It is left out with its reason; asked for by name it is an error."""
    monkeypatch.setitem(bench.CONTESTANTS, "jax", ("in_nothing", {}))
    (answer,) = serve("jax")
    assert "No module named 'minivi.bench.in_nothing'" in answer["error"]
    monkeypatch.setattr(bench, "BARE", "import sys; print('as it goes', file=sys.stderr); sys.exit('no such library')")
    benchmark = bench.Benchmark(arguments("--out", str(tmp_path / "bench.json")))
    assert benchmark.measure([SMALL["rng"]], ["jax"], 1, 1) == []
    assert benchmark.report["absent"] == {"jax": "its process ended with status 1: no such library"}
    benchmark = bench.Benchmark(arguments("--out", str(tmp_path / "bench.json"), "--peers", "jax"))
    with pytest.raises(bench.BenchError, match=r"jax cannot run in .* \(its .* no such library\); install it there"):
        benchmark.measure([SMALL["rng"]], ["jax"], 1, 1)


class Fake:
    """A contestant with made-up answers; it dies in the round ``dies``."""

    def __init__(self, name, values, ms, dies=None):
        self.name, self.values, self.ms, self.dies, self.asked = name, values, iter(ms), dies, []

    def ask(self, setup=None, small=None, seconds=None):
        if setup:
            return {"values": self.values, "setup_seconds": 0.1}
        ms = next(self.ms)
        if ms == self.dies:
            raise bench.WorkerError("its process ended")
        return {"ms": ms, "steps": 1, "cpus": 1.0, "others": None, "peak_mb": ms, "work_mb": None}


def test_disagreement_and_death_are_failures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "PAUSE", 0)
    benchmark = bench.Benchmark(arguments("--out", str(tmp_path / "bench.json")))
    ours, good, off = [2.0, 1.0], [2.00001, 1.0], [2.0, 1.0001]
    fakes = [
        Fake("minivi", ours, [1, 2]),
        Fake("numpy", good, [4, 6]),
        Fake("jax", off, [1, 1]),
        Fake("torch", ours, [5, 7], 7),
    ]
    rows = {row["contestant"]: row for row in benchmark.interleave(SMALL["vae"], fakes, threads=1, rounds=2)}
    assert {name: row["agrees"] for name, row in rows.items()} == {"minivi": True, "numpy": True, "jax": False}
    assert rows["numpy"]["ratio"] == {"median": 3.5, "min": 3, "max": 4} and rows["numpy"]["peak_mb"] == 6
    assert rows["numpy"]["work_mb"] is None and rows["numpy"]["gflops"] == pytest.approx(SMALL["vae"].flops / 5e6)
    failures = {f["contestant"]: f["reason"] for f in benchmark.report["failures"]}
    assert failures.keys() == {"jax", "torch"} and "more than 1e-05 apart" in failures["jax"]
    assert failures["torch"] == "its process ended" and "jax in vae: computes" in capsys.readouterr().err


def test_contestants_take_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "PAUSE", 0)
    benchmark = bench.Benchmark(arguments("--out", str(tmp_path / "bench.json")))
    order = []
    fakes = [Fake(name, [1.0, 1.0], [1, 1, 1]) for name in ("minivi", "numpy", "jax")]
    for fake in fakes:
        monkeypatch.setattr(fake, "ask", lambda own=fake, ask=fake.ask, **r: (order.append(own.name), ask(**r))[1])
    benchmark.interleave(SMALL["made"], fakes, threads=1, rounds=3)
    setups, rounds = order[:3], [order[3:6], order[6:9], order[9:]]
    assert setups == ["minivi", "numpy", "jax"]
    assert rounds == [["minivi", "numpy", "jax"], ["numpy", "jax", "minivi"], ["jax", "minivi", "numpy"]]
