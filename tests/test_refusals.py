"""Wrong input is refused where it enters, in one line that says what is wrong: no number comes of it.

Each case is a call and words of the message. What must go on working stands at the end.
"""

import numpy as np
import pytest

from minivi import bounds, estimators, evaluation, mcmc, nn, optim, refinement, validate
from minivi.distributions import Bernoulli, Normal
from minivi.flows import Flow
from minivi.models import (
    VAE,
    BeliefNetwork,
    Classifier,
    DirectedVAE,
    FullVB,
    HamiltonianVAE,
    LayeredVAE,
    Terms,
    directed,
)
from minivi.random import Generator
from minivi.tensor import Parameter, Tensor, grad
from minivi.training import TrainingError, fit

G = Generator
X = np.asarray(G(1).random((6, 4), dtype=np.float32) > 0.5, np.float32)
GREY = X * 255
LOST = np.where(np.arange(24).reshape(6, 4) == 9, np.float32(np.nan), X)  # a NaN at (2, 1)
VAE4 = VAE(4, (3,), 2, rng=G(0))
NORMAL4 = VAE(4, (3,), 2, "gaussian", rng=G(0))
LAYERED = LayeredVAE(4, [(3,), (3,)], [2, 2], rng=G(0))
GRAPH = directed.layers(4, [(3,), (3,)], [2, 2], rng=G(0))
BELIEF = BeliefNetwork(4, (3, 2), rng=G(0))
CHAINED = BeliefNetwork(4, (3,), autoregressive=("prior", "posterior", "pixels"), rng=G(0))
ONE = BeliefNetwork(4, (3,), rng=G(0))
WIDE = VAE(4, (3,), 2, posterior="full", rng=G(0))
HVI = HamiltonianVAE(4, (3,), 2, rng=G(0))
FULL = FullVB(VAE4, 6)
LOCAL = FullVB(VAE4, 6, local=True)
CLASSES = Classifier(4, (3,), 3, rng=G(0))
MADE = nn.MADE(4, (3,), G(0))
NOISE = np.zeros((3, 6, 2), np.float32)
NAN = float("nan")
ZERO = lambda z: -(z * z).sum(axis=-1)
Z = np.zeros((5, 2))


def make_vae(**options):
    return VAE(**{"pixels": 4, "hidden": (3,), "latents": 2, "rng": G(0)} | options)


def make_belief(**options):
    return BeliefNetwork(**{"pixels": 4, "latents": (3,), "rng": G(0)} | options)


def make_layered(**options):
    return LayeredVAE(**{"pixels": 4, "hidden": [(3,)], "latents": [2], "rng": G(0)} | options)


def make_layers(**options):
    return directed.layers(**{"pixels": 4, "hidden": [(3,)], "latents": [2], "rng": G(0)} | options)


def make_auxiliary(**options):
    return directed.auxiliary(**{"pixels": 4, "hidden": (3,), "latents": 2, "auxiliaries": 2, "rng": G(0)} | options)


def make_classifier(**options):
    return Classifier(**{"inputs": 4, "hidden": (3,), "classes": 3, "rng": G(0)} | options)


def make_made(**options):
    return nn.MADE(**{"dims": 4, "hidden": (3,), "rng": G(0)} | options)


def make_arrow(**options):
    return directed.Arrow(**{"inputs": [2], "sizes": [3], "make": Bernoulli, "rng": G(0)} | options)


def train(loss=None, model=None, **options):
    model = model or make_vae()
    loss = loss or (lambda x, rng: -model.elbo(x, rng).mean())
    settings = {"optimizer": optim.Adam(model.parameters()), "train": X, "epochs": 1, "rng": G(0), "progress": False}
    return fit(model, loss, **settings | options)


class OverThree(Flow):
    size = 3


LATENT = {"z": (["x"], make_arrow(inputs=[4], sizes=[4], make=lambda h: Normal(h[..., :2], h[..., 2:])))}
PIXELS = make_arrow(sizes=[4])
SIZE = "must be an integer"

CASES = {
    # ------------------------------------------------------------------------------------------- constructors
    **{
        f"{name}({argument}={value!r})": (lambda make=make, a=argument, v=value: make(**{a: v}), w)
        for name, make, rows in (
            ("VAE", make_vae, [("pixels", 0), ("pixels", "4"), ("latents", 0), ("latents", 1.5), ("latents", True),
                               ("context", -1)]),
            ("LayeredVAE", make_layered, [("pixels", 0), ("latents", [0]), ("latents", [1.5])]),
            ("layers", make_layers, [("pixels", -1), ("latents", [0]), ("hidden", [(0,)])]),
            ("auxiliary", make_auxiliary, [("pixels", 0), ("latents", 0), ("auxiliaries", 0), ("hidden", (0,))]),
            ("Classifier", make_classifier, [("inputs", 0), ("classes", 0), ("hidden", (2.0,))]),
            ("MADE", make_made, [("dims", 0), ("outputs", 0), ("masks", 1.5), ("context", -1), ("hidden", (0,))]),
            ("Arrow", make_arrow, [("inputs", [0]), ("sizes", [0])]),
        )
        for argument, value in rows
        for w in (rf"^{name}: {argument}.* {SIZE}",)
    },
    **{
        f"{name}({argument}={value!r})": (
            lambda make=make, argument=argument, value=value: make(**{argument: value}), words)
        for name, make in (("VAE", make_vae), ("LayeredVAE", make_layered), ("layers", make_layers),
                           ("auxiliary", make_auxiliary), ("Classifier", make_classifier), ("MADE", make_made),
                           ("Arrow", make_arrow))
        for argument, value, words in (
            ("rng", 0, "rng must be a generator, such as minivi.Generator"),
            ("rng", None, "rng must be a generator"),
            ("init", "glorot", "init must be a function, .*minivi.nn.glorot"),
            ("activation", "sin", "unknown activation 'sin'; one of tanh"),
            ("activation", None, "unknown activation None"),
        )
    },
    "VAE(hidden=8)": (lambda: make_vae(hidden=8), r"^VAE: hidden must be a sequence of integers, such as \(100,\)"),
    "VAE(hidden='8')": (lambda: make_vae(hidden="8"), "^VAE: hidden must be a sequence"),
    "VAE(hidden=None)": (lambda: make_vae(hidden=None), "^VAE: hidden must be a sequence"),
    "VAE(likelihood)": (lambda: make_vae(likelihood=["gaussian"]), "unknown likelihood .*; one of bernoulli, gaussian"),
    "VAE(posterior)": (lambda: make_vae(posterior=None), "unknown posterior None; one of diagonal, full"),
    "VAE(flow)": (lambda: make_vae(flow="iaf"), "VAE: flow must be an object with forward"),
    "VAE(flow size)": (lambda: make_vae(flow=OverThree()), "a flow over 3 dimensions for 2 latents"),
    "VAE(output_bias)": (lambda: make_vae(output_bias=np.zeros(3)), r"bias of shape \(3,\); pass a number or"),
    "LayeredVAE(hidden)": (lambda: make_layered(hidden=3), "for 1 stochastic layers; one group for each"),
    "LayeredVAE(group)": (lambda: make_layered(hidden=[3]), "hidden, each group, must be a sequence"),
    "LayeredVAE(latents)": (lambda: make_layered(latents=2), "latents must be a sequence"),
    "LayeredVAE(no layers)": (lambda: make_layered(hidden=[], latents=[]), "latents must have 1 or more"),
    "layers(hidden)": (lambda: directed.layers(4, [(3,), ()], [2, 2], rng=G(0)), "at least one in each group"),
    "layers(inference)": (lambda: make_layers(inference=1), "unknown inference 1; one of bottom-up"),
    "Arrow(make)": (lambda: make_arrow(make=None), "Arrow: make must be a function"),
    "Arrow(inputs)": (lambda: make_arrow(inputs=2), "Arrow: inputs must be a sequence"),
    "Arrow of too many": (lambda: make_arrow()(X[:, :2], X), "2 parents for 1 inputs"),
    "DirectedVAE(graph)": (lambda: DirectedVAE(4, None, {}), "a graph is a dict"),
    "DirectedVAE(pair)": (lambda: DirectedVAE(4, {"x": PIXELS}, {}), "a graph is a dict"),
    "DirectedVAE(parents)": (lambda: DirectedVAE(4, {"x": ("z", PIXELS)}, {}), "a graph is a dict"),
    "DirectedVAE(x alone)": (
        lambda: DirectedVAE(4, {"x": ([], 4), "z": ([], 2)}, LATENT), "'x' depends on no latent variable"),
    "DirectedVAE(no latent)": (lambda: DirectedVAE(4, {"x": ([], 4)}, {}), "'x' depends on no latent variable"),
    "DirectedVAE(size)": (
        lambda: DirectedVAE(4, {"x": (["z"], PIXELS), "z": ([], 0)}, LATENT), "conditional of z, .*at least 1; got 0"),
    "DirectedVAE(string)": (
        lambda: DirectedVAE(4, {"x": (["z"], PIXELS), "z": ([], "2")}, LATENT), "conditional of z, .*integer; got '2'"),
    "FullVB(vae)": (lambda: FullVB(None, 6), "FullVB: vae must be an object with elbo"),
    "FullVB(count)": (lambda: FullVB(VAE4, 0), "FullVB: count must be an integer, at least 1"),
    "FullVB(scale)": (lambda: FullVB(VAE4, 6, -1.0), "FullVB: scale must be positive"),
    **{
        f"{name}(activation) by name": (lambda make=make: make(activation="sin"), f"^{name}: unknown activation 'sin'")
        for name, make in (("VAE", make_vae), ("LayeredVAE", make_layered), ("layers", make_layers),
                           ("auxiliary", make_auxiliary), ("Classifier", make_classifier), ("Arrow", make_arrow))
    },
    "Classifier(input_dropout)": (lambda: make_classifier(input_dropout=1.0), r"must lie in \[0, 1\); got 1.0"),
    "Classifier(hidden_dropout)": (lambda: make_classifier(hidden_dropout=NAN), "must be a finite number; got nan"),
    "Linear(inputs)": (lambda: nn.Linear(0, 2, G(0)), "Linear: inputs must be an integer, at least 1"),
    "Linear(bias)": (lambda: nn.Linear(2, 3, G(0), bias=np.zeros(2)), r"Linear: bias of shape \(2,\)"),
    "MLP(sizes)": (lambda: nn.MLP(3, G(0)), "MLP: sizes, .* must be a sequence"),
    "MLP(one size)": (lambda: nn.MLP((3,), G(0)), "at least an input and an output"),
    "MADE(degrees)": (lambda: make_made(degrees=1), "unknown degrees 1; one of even"),
    # ------------------------------------------------------------------------------------------- data into models
    **{
        f"{name}.log_weights({what})": (lambda model=model, x=x: model.log_weights(x, G(0)), words)
        for name, model in (("VAE", VAE4), ("gaussian", NORMAL4), ("LayeredVAE", LAYERED), ("DirectedVAE", GRAPH))
        for what, x, words in (
            ("0..255", GREY, "has values from 0.0 to 255.0, they must lie in .0, 1.; divide 8-bit grey by 255"),
            ("NaN", LOST, r"of shape \(6, 4\) has nan at \(2, 1\), 1 of 24 numbers not finite; clean the data"),
            ("(D,)", X[0], r"x has shape \(4,\); pass data as rows \(N, 4\), x\[None\] for a single one"),
            ("another D", X[:, :3], r"x has shape \(6, 3\); pass data as rows \(N, 4\)"),
            ("no data", X[:0], "no data; pass at least one row"),
            ("a list", X.tolist(), "must be an array, such as np.asarray"),
            ("None", None, "must be an array"),
        )
        if (name, what) != ("gaussian", "0..255")  # a density of all real numbers
    },
    **{
        f"{name}.log_weights({what})": (lambda model=model, options=options: model.log_weights(X, **options), words)
        for name, model in (("VAE", VAE4), ("LayeredVAE", LAYERED), ("DirectedVAE", GRAPH))
        for what, options, words in (
            ("no rng", {}, "rng must be a generator"),
            ("rng=0", {"rng": 0}, "rng must be a generator, such as minivi.Generator"),
            ("samples=0", {"rng": G(0), "samples": 0}, "samples must be an integer, at least 1; got 0"),
            ("samples=1.5", {"rng": G(0), "samples": 1.5}, "samples must be an integer; got 1.5"),
            ("samples='2'", {"rng": G(0), "samples": "2"}, "samples must be an integer; got '2'"),
        )
    },
    "VAE eps": (lambda: VAE4.log_weights(X, eps=NOISE[:, :2]), r"eps has shape \(3, 2, 2\); pass \(K, 6, 2\)"),
    "VAE eps of a row": (lambda: VAE4.log_weights(X, eps=NOISE[0]), r"eps has shape \(6, 2\)"),
    "VAE no eps": (lambda: VAE4.log_weights(X, eps=NOISE[:0]), "eps has shape"),
    "LayeredVAE eps": (lambda: LAYERED.log_weights(X, eps=[NOISE]), "eps of shapes .*; pass .* for each J"),
    "DirectedVAE eps": (lambda: GRAPH.log_weights(X, eps={"z1": NOISE}), "dicts with arrays .* for each of"),
    "DirectedVAE eps shape": (
        lambda: GRAPH.log_weights(X, eps={"z1": NOISE[:, :2], "z2": NOISE}), r"eps of z1 has shape \(3, 2, 2\)"),
    "DirectedVAE z": (lambda: GRAPH.terms(X, z=[NOISE, NOISE]), "dicts with arrays"),
    "VAE.encode": (lambda: VAE4.encode(LOST), r"VAE.encode: x of shape .* has nan at \(2, 1\)"),
    "VAE.encode(text)": (lambda: VAE4.encode(np.array([["a"] * 4])), "must be numbers"),
    "LayeredVAE.encode(level)": (lambda: LAYERED.encode(X, 2), "no level 2; there are 2"),
    "LayeredVAE.decode": (lambda: LAYERED.decode(X), r"shape \(6, 4\); level 0 takes"),
    "VAE.decode": (lambda: VAE4.decode(X), r"VAE.decode: z has shape \(6, 4\); this model takes \(..., 2\)"),
    "VAE.mean_image": (lambda: VAE4.mean_image(X), "VAE.decode: z has shape"),
    "VAE.reconstruct": (lambda: VAE4.reconstruct(GREY), "divide 8-bit grey by 255"),
    "LayeredVAE.reconstruct": (lambda: LAYERED.reconstruct(GREY), "divide 8-bit grey by 255"),
    "VAE.elbo": (lambda: VAE4.elbo(GREY, G(0)), "divide 8-bit grey by 255"),
    "VAE.elbo(integers)": (lambda: VAE4.elbo(GREY.astype(np.uint8), G(0)), "divide 8-bit grey by 255"),
    "VAE.elbo(negative)": (lambda: VAE4.elbo(-X, G(0)), "from -1.0 to -?0.0, they must lie"),
    "VAE.draw(0)": (lambda: VAE4.draw(X, G(0), 0), "^VAE: samples must be an integer, at least 1"),
    "VAE.draw(rng)": (lambda: VAE4.draw(X, 0), "^VAE: rng must be a generator"),
    "VAE.draw(row)": (lambda: VAE4.draw_and_score(X[0], G(0)), "^VAE: x has shape"),
    "VAE.elbo(estimator)": (lambda: VAE4.elbo(X, G(0), estimator="C"), "unknown estimator 'C'"),
    **{
        f"{name}.sample({what})": (lambda model=model, arguments=arguments: model.sample(*arguments), words)
        for name, model in (("VAE", VAE4), ("LayeredVAE", LAYERED), ("DirectedVAE", GRAPH), ("MADE", MADE))
        for what, arguments, words in (
            ("-1", (-1, G(0)), "count must be an integer, at least 0"),
            ("1.5", (1.5, G(0)), "count must be an integer"),
            ("rng=0", (2, 0), "rng must be a generator"),
        )
    },
    "FullVB.elbo(x)": (lambda: FULL.elbo(GREY, G(0)), "divide 8-bit grey by 255"),
    "FullVB.elbo(samples)": (lambda: FULL.elbo(X, G(0), 0), "samples must be an integer, at least 1"),
    "FullVB.elbo(estimator)": (lambda: FULL.elbo(X, G(0), estimator="C"), "^FullVB.elbo: unknown estimator 'C'"),
    "FullVB.elbo(kl_weight)": (lambda: FULL.elbo(X, G(0), kl_weight=-1.0), "kl_weight must be at least 0"),
    "FullVB.elbo(eps)": (lambda: FULL.elbo(X, eps=NOISE), "rng, without both eps and zeta, must be a generator"),
    "FullVB.elbo(eps, zeta)": (
        lambda: FULL.elbo(X, eps=NOISE, zeta=[FULL.noise(G(0))]), "3 samples in eps, 1 in zeta"),
    "Classifier(x)": (lambda: CLASSES(X[:, :3]), r"x has shape \(6, 3\); this model takes"),
    "Classifier.log_prob": (lambda: CLASSES.log_prob(X[:2], np.array([1])), r"labels of shape \(1,\) for x"),
    "Classifier.log_prob(label)": (lambda: CLASSES.log_prob(X[:2], 1), r"labels of shape \(\) for x"),
    "Bernoulli.log_prob": (lambda: Bernoulli(X).log_prob(GREY), "divide 8-bit grey by 255"),
    "Bernoulli.log_prob(NaN)": (lambda: Bernoulli(X).log_prob(LOST), r"has nan at \(2, 1\)"),
    "MADE.log_prob": (lambda: MADE.log_prob(GREY), "divide 8-bit grey by 255"),
    # ------------------------------------------------------------------------------------------- bounds, estimators
    **{
        f"{name} of 0 samples": (call, f"^{name}: log-weights of shape .0, 2.; pass")
        for name, call in (
            ("elbo", lambda: bounds.elbo(np.zeros((0, 2)))),
            ("iwae", lambda: bounds.iwae(np.zeros((0, 2)))),
            ("miwae", lambda: bounds.miwae(np.zeros((0, 2)), 1)),
        )
    },
    "ciwae of 0": (lambda: bounds.ciwae(np.zeros((0, 2)), 0.5), "pass .K, B. with at least one sample"),
    "piwae of 0": (lambda: bounds.piwae(np.zeros((0, 2)), 1), "pass .K, B. with at least one sample"),
    "iwae of a number": (lambda: bounds.iwae(1.0), "pass .K, B. with at least one sample"),
    "ciwae(2)": (lambda: bounds.ciwae(X, 2), "^ciwae: beta has values from 2 to 2, they must lie in .0, 1."),
    "ciwae(-1)": (lambda: bounds.ciwae(X, -1.0), "^ciwae: beta"),
    "ciwae(NaN)": (lambda: bounds.ciwae(X, NAN), "^ciwae: beta .* has nan"),
    "ciwae('a')": (lambda: bounds.ciwae(X, "a"), "^ciwae: beta must be numbers"),
    "miwae(1.5)": (lambda: bounds.miwae(X, 1.5), "6 samples do not make 1.5 groups"),
    "free_bits(NaN)": (lambda: bounds.free_bits(X[:, 0], X, NAN), "minimum nan; a number of nats"),
    "free_bits(shape)": (lambda: bounds.free_bits(X[:, 0], X, np.ones(3)), "or one for each group"),
    "warm_up(-1)": (lambda: bounds.warm_up(-1, 5), "^warm_up: step must be at least 0; got -1"),
    "warm_up(.., -5)": (lambda: bounds.warm_up(1, -5), "^warm_up: steps must be at least 0"),
    "warm_up('1')": (lambda: bounds.warm_up("1", 5), "^warm_up: step must be a finite number; got '1'"),
    "warm_up(NaN)": (lambda: bounds.warm_up(NAN, 5), "^warm_up: step must be a finite number; got nan"),
    "wake_sleep(x)": (lambda: estimators.wake_sleep(VAE4, X[0], G(0)), "wake_sleep: x has shape"),
    "wake_sleep(model)": (lambda: estimators.wake_sleep(MADE, X, G(0)), "^wake_sleep: model must be an object with"),
    "wake_sleep(rng)": (lambda: estimators.wake_sleep(VAE4, X, 0), "wake_sleep: rng must be a generator"),
    "wake_sleep(grey)": (lambda: estimators.wake_sleep(VAE4, GREY, G(0)), "divide 8-bit grey by 255"),
    "BeliefNetwork(pixels)": (lambda: make_belief(pixels=0), "BeliefNetwork: pixels must be an integer"),
    "BeliefNetwork(latents)": (lambda: make_belief(latents=()), "latents must have 1 or more entries"),
    "BeliefNetwork(latents=3)": (lambda: make_belief(latents=3), "latents must be a sequence of integers"),
    "BeliefNetwork(hidden)": (lambda: make_belief(hidden=[(3,), (3,)]), "for 1 layers of latents; one group for each"),
    "BeliefNetwork(group)": (lambda: make_belief(hidden=[3]), "each group, must be a sequence"),
    "BeliefNetwork(words)": (lambda: make_belief(autoregressive=("prior", "q")), "pass words among"),
    "BeliefNetwork(word)": (lambda: make_belief(autoregressive="prior"), "pass words among"),
    "BeliefNetwork(act)": (lambda: make_belief(activation="gelu"), "unknown activation 'gelu'"),
    "BeliefNetwork(rng)": (lambda: make_belief(rng=0), "BeliefNetwork: rng must be a generator"),
    "belief(half)": (lambda: BELIEF.log_weights(0.5 * X, G(0)), "values that are no bits; draw binary pixels by"),
    "belief(grey)": (lambda: BELIEF.log_weights(GREY, G(0)), "divide 8-bit grey by 255"),
    "belief(NaN)": (lambda: BELIEF.log_weights(LOST, G(0)), r"has nan at \(2, 1\)"),
    "belief(x)": (lambda: BELIEF.log_weights(X[0], G(0)), "pass data as rows"),
    "belief(columns)": (lambda: BELIEF.log_weights(X[:, :3], G(0)), r"\(N, 4\)"),
    "belief(rng)": (lambda: BELIEF.draw_and_score(X, 0), "rng must be a generator"),
    "belief(0)": (lambda: BELIEF.draw_and_score(X, G(0), 0), "samples must be an integer"),
    "belief(h)": (lambda: BELIEF.log_p_parts(X, [Z]), r"pass an array \(K, B, J\) for each J of \(3, 2\)"),
    "belief(h, q)": (lambda: BELIEF.log_q_parts(X, [NOISE, NOISE]), r"h of shapes .* for each J of \(3, 2\)"),
    "belief(level)": (lambda: BELIEF.encode(X, 2), "no level 2; there are 2, counted from 0"),
    "belief(encode)": (lambda: BELIEF.encode(X[:, :2]), r"level 0 takes \(\.\.\., 4\)"),
    "belief(decode)": (lambda: BELIEF.decode(X, 1), r"level 1 takes \(\.\.\., 2\)"),
    "belief(chained)": (lambda: CHAINED.encode(X), "autoregressive layer depend on each other; use draw_and_score"),
    "belief(prior)": (lambda: CHAINED.prior(), "BeliefNetwork.prior: the units of an autoregressive layer"),
    "belief(states)": (lambda: make_belief(latents=(17,)).states(), "17 latents have 2.17 states; at most 16 fit"),
    "belief(level 1.0)": (lambda: BELIEF.encode(X, 1.0), "encode: level must be an integer; got 1.0"),
    "belief(no h)": (lambda: BELIEF.log_p_parts(X, None), r"h of shapes None; pass an array \(K, B, J\) for each J"),
    "belief(words)": (lambda: make_belief(autoregressive=None), "autoregressive None; pass words among"),
    "belief(lists)": (lambda: make_belief(autoregressive=[["prior"]]), "pass words among"),
    "belief(old rng)": (lambda: BELIEF.elbo(X, np.random.RandomState(0)), "generator, such as minivi.Generator"),
    "HVI(old rng)": (lambda: HVI.elbo(X, np.random), "generator, such as minivi.Generator"),
    "belief(sample)": (lambda: BELIEF.sample(-1, G(0)), "count must be an integer, at least 0"),
    "belief(dream)": (lambda: BELIEF.dream(2, None), "rng must be a generator"),
    "vimco(h)": (lambda: estimators.vimco(BELIEF, X, None, 2, h=[X]), r"vimco: h of shapes .* \(K, 6, J\)"),
    "vimco(1)": (lambda: estimators.vimco(BELIEF, X, G(0), 1), "one sample has no others .* pass samples=2 or more"),
    "vimco(0)": (lambda: estimators.vimco(BELIEF, X, G(0), 0), "vimco: samples must be an integer, at least 1"),
    "vimco(mean)": (lambda: estimators.vimco(BELIEF, X, G(0), 2, mean="median"), "unknown mean 'median'"),
    "vimco(x)": (lambda: estimators.vimco(BELIEF, X[0], G(0)), "vimco: x has shape"),
    "vimco(rng)": (lambda: estimators.vimco(BELIEF, X), "vimco: rng must be a generator"),
    "vimco(half)": (lambda: estimators.vimco(BELIEF, 0.5 * X, G(0)), "values that are no bits"),
    "vimco(model)": (lambda: estimators.vimco(MADE, X, G(0)), "vimco: model must be an object with draw_and_score"),
    "rws(weights)": (lambda: estimators.reweighted_wake_sleep(BELIEF, X, G(0), wake_p=-1), "wake_p must be at least 0"),
    "rws(none)": (
        lambda: estimators.reweighted_wake_sleep(BELIEF, X, G(0), wake_p=0, wake_q=0, sleep_q=0),
        "are all 0: nothing would learn; raise one",
    ),
    "rws(rng)": (lambda: estimators.reweighted_wake_sleep(BELIEF, X), "rng must be a generator"),
    "rws(no rng for dreams)": (
        lambda: estimators.reweighted_wake_sleep(BELIEF, X, h=[NOISE[:1, :, :1].repeat(3, -1), NOISE[:1]]),
        "^reweighted_wake_sleep: rng must be a generator",
    ),
    "rws(x)": (lambda: estimators.reweighted_wake_sleep(BELIEF, X[0], G(0)), "reweighted_wake_sleep: x has shape"),
    "straight(x)": (lambda: estimators.straight_through(BELIEF, X[0], G(0)), "straight_through: x has shape"),
    "straight(rng)": (lambda: estimators.straight_through(BELIEF, X), "straight_through: rng must be a generator"),
    "straight(0)": (lambda: estimators.straight_through(BELIEF, X, G(0), 0), "samples must be an integer"),
    "straight(chained)": (lambda: estimators.straight_through(CHAINED, X, G(0)), "units of an autoregressive layer"),
    "straight(model)": (lambda: estimators.straight_through(MADE, X, G(0)), "model must be an object with encode"),
    "NVIL(model)": (lambda: estimators.NVIL(MADE, rng=G(0)), "NVIL: model must be an object with draw_and_score"),
    "NVIL(hidden)": (lambda: estimators.NVIL(BELIEF, 400, rng=G(0)), "NVIL: hidden must be a sequence"),
    "NVIL(decay)": (lambda: estimators.NVIL(BELIEF, decay=1.0, rng=G(0)), r"decay must lie in \[0, 1\)"),
    "NVIL(no rng)": (lambda: estimators.NVIL(BELIEF, rng=0), "NVIL: rng must be a generator"),
    "NVIL(x)": (lambda: estimators.NVIL(BELIEF, None, rng=G(0))(X[0], G(0)), "NVIL: x has shape"),
    "NVIL(rng)": (lambda: estimators.NVIL(BELIEF, None, rng=G(0))(X), "NVIL: rng must be a generator"),
    "NVIL(0)": (lambda: estimators.NVIL(BELIEF, None, rng=G(0))(X, G(0), 0), "NVIL: samples must be an integer"),
    "HVI(steps)": (lambda: HamiltonianVAE(4, rng=G(0), steps=0), "steps must be an integer, at least 1"),
    "HVI(flow)": (lambda: HamiltonianVAE(4, rng=G(0), flow=OverThree()), "a Gaussian; leave the flow out"),
    "HVI(size)": (lambda: HamiltonianVAE(4, rng=G(0), step_size=NAN), "step_size must be a finite number"),
    "HVI(reverse)": (lambda: HamiltonianVAE(4, rng=G(0), reverse=0), "reverse must be an integer, at least 1"),
    "HVI(eps)": (lambda: HVI.terms(X, eps=NOISE), r"pass \(2, K, B, J\), for z_0 and v_0"),
    "HVI(three eps)": (lambda: HVI.terms(X, eps=NOISE[:, None]), r"pass \(2, K, B, J\), for z_0 and v_0"),
    "HVI(one eps)": (lambda: HVI.terms(X, eps=NOISE[:2]), r"pass \(2, K, B, J\), for z_0 and v_0"),
    "HVI(grey)": (lambda: HVI.elbo(GREY, G(0)), "divide 8-bit grey by 255"),
    "gaussian(steps)": (lambda: refinement.refine_gaussian(VAE4, X, G(0), -1), "steps must be an integer, at least 0"),
    "gaussian(rate)": (lambda: refinement.refine_gaussian(VAE4, X, G(0), rate=-0.1), "rate must be at least 0"),
    "gaussian(samples)": (lambda: refinement.refine_gaussian(VAE4, X, G(0), samples=0), "samples must be an integer"),
    "gaussian(x)": (lambda: refinement.refine_gaussian(VAE4, X[0], G(0)), "refine_gaussian: x has shape"),
    "gaussian(rng)": (lambda: refinement.refine_gaussian(VAE4, X, 0), "refine_gaussian: rng must be a generator"),
    "gaussian(no rng)": (lambda: refinement.refine_gaussian(VAE4, X, None), "refine_gaussian: rng must be a generator"),
    "gaussian(belief)": (lambda: refinement.refine_gaussian(ONE, X, G(0)), "posterior is a Bernoulli; this refines"),
    "gaussian(full)": (lambda: refinement.refine_gaussian(WIDE, X, G(0)), "the posterior is a MultivariateNormal"),
    "gaussian(deep)": (lambda: refinement.refine_gaussian(BELIEF, X, G(0)), "model of 2 layers of latents; pass one"),
    "gaussian(model)": (lambda: refinement.refine_gaussian(MADE, X, G(0)), "model must be an object with encode"),
    "avi(vae)": (lambda: refinement.refine_bernoulli(VAE4, X, G(0)), "posterior is a Normal; this refines a Bernoulli"),
    "avi(damping)": (lambda: refinement.refine_bernoulli(ONE, X, G(0), damping=0.0), r"damping must lie in \(0, 1\]"),
    "avi(half)": (lambda: refinement.refine_bernoulli(ONE, 0.5 * X, G(0)), "values that are no bits"),
    "avi(rng)": (lambda: refinement.refine_bernoulli(ONE, X, 0), "rng must be a generator"),
    "mpvi(half)": (lambda: refinement.refine_mean_field(ONE, 0.5 * X), "values that are no bits"),
    "mpvi(deep)": (lambda: refinement.refine_mean_field(BELIEF, X), "a model of 2 layers of latents"),
    "st(rate)": (lambda: refinement.refine_straight_through(ONE, X, G(0), rate="1"), "rate must be a finite number"),
    "gaussian(eps)": (lambda: refinement.refine_gaussian(VAE4, X, None, 2, eps=NOISE), r"pass \(2, N, 6, 2\)"),
    "gaussian(None)": (lambda: refinement.refine_gaussian(VAE4, X, None), "rng must be a generator"),
    "gaussian(inf)": (lambda: refinement.refine_gaussian(NORMAL4, X, G(0), 20, 1e6), "pass a smaller rate"),
    "avi(None)": (lambda: refinement.refine_bernoulli(ONE, X, None), "rng must be a generator"),
    "avi(uniform)": (
        lambda: refinement.refine_bernoulli(ONE, X, None, 2, uniform=np.zeros((2, 5, 1, 3))), r"pass \(2, N, 6, 3\)"),
    "st(uniform)": (
        lambda: refinement.refine_straight_through(ONE, X, None, 2, uniform=0.5), r"uniform of shape \(\); pass"),
    "Refined(None)": (lambda: refinement.Refined(ONE, lambda *a: None).elbo(X, G(0)), r"of shape \(6, 3\)"),
    "Refined(one row)": (
        lambda: refinement.Refined(ONE, lambda m, x, rng: m.encode(x[:1])).elbo(X, G(0)), "of shape .6, 3."),
    "Refined(x)": (lambda: refinement.Refined(ONE, print).elbo(X[0], G(0)), "Refined: x has shape"),
    "Refined(refine)": (lambda: refinement.Refined(ONE, 20), "refine must be a function"),
    "Refined(deep)": (lambda: refinement.Refined(BELIEF, print), "a model of 2 layers of latents; pass one of one"),
    "Refined(0)": (lambda: refinement.Refined(ONE, print).log_weights(X, G(0), 0), "samples must be an integer"),
    "Refined(rng)": (lambda: refinement.Refined(ONE, print).surrogate(X, 0), "rng must be a generator"),
    "score_function(x)": (lambda: estimators.score_function(VAE4, X[0], G(0)), "score_function: x has shape"),
    "score_function(rng)": (lambda: estimators.score_function(VAE4, X), "score_function: rng must be a generator"),
    "score_function(0)": (lambda: estimators.score_function(VAE4, X, G(0), 0), "samples must be an integer"),
    "score_function(grey)": (lambda: estimators.score_function(VAE4, GREY, G(0)), "divide 8-bit grey by 255"),
    "sticking(x)": (lambda: estimators.sticking_the_landing(VAE4, GREY, G(0)), "divide 8-bit grey by 255"),
    "sticking(groups)": (lambda: estimators.sticking_the_landing(VAE4, X, G(0), 2, 3), "do not make 3 groups"),
    "doubly(groups)": (lambda: estimators.doubly_reparameterised(VAE4, X, G(0), 2, 0), "do not make 0 groups"),
    # ------------------------------------------------------------------------------------------- layers
    "dropout(1.0)": (lambda: nn.dropout(X, 1.0, G(0)), r"^dropout: rate must lie in \[0, 1\); got 1.0"),
    "dropout(1.0), no rng": (lambda: nn.dropout(X, 1.0), "^dropout: rate must lie in"),
    "dropout(-0.1)": (lambda: nn.dropout(X, -0.1, G(0)), "^dropout: rate must lie in"),
    "dropout('a')": (lambda: nn.dropout(X, "a", G(0)), "^dropout: rate must be a finite number"),
    "dropout(rng)": (lambda: nn.dropout(X, 0.5, 0), "^dropout: rng must be a generator"),
    "normal(-1)": (lambda: nn.normal(-1.0), "^normal: std must be at least 0"),
    "logit_of_mean": (lambda: nn.logit_of_mean(GREY), "divide 8-bit grey by 255"),
    "logit_of_mean(margin)": (lambda: nn.logit_of_mean(X, 0.7), "margin must lie in .0, 0.5."),
    "load_state_dict": (lambda: VAE4.load_state_dict(None), "got None; pass a dict of arrays"),
    "load_state_dict(list)": (
        lambda: VAE4.load_state_dict({k: v.tolist() for k, v in VAE4.state_dict().items()}), "the weights are float64"),
    # ------------------------------------------------------------------------------------------- optimizers
    "Adam(model)": (lambda: optim.Adam(VAE4), r"^Adam: needs a list of Parameters, model.parameters\(\); got"),
    "Adam(None)": (lambda: optim.Adam(None), "^Adam: needs a list of Parameters"),
    "Adam(parameter)": (lambda: optim.Adam(Parameter([1.0])), "^Adam: needs a list of Parameters"),
    "Adam(arrays)": (lambda: optim.Adam([X]), "^Adam: needs a list of one or more Parameters"),
    **{
        f"{cls.__name__}({name}={value!r})": (
            lambda cls=cls, name=name, value=value: cls(VAE4.parameters(), **{"step_size": 0.1} | {name: value}),
            rf"^{cls.__name__}: {name} must")
        for cls in (optim.SGD, optim.AdaGrad, optim.AdaDelta, optim.RMSProp, optim.Adam, optim.AdaMax)
        for name, value in (("step_size", "1e-3"), ("step_size", 0.0), ("step_size", NAN), ("step_size", None),
                            ("weight_decay", -1.0), ("weight_decay", "0"))
    },
    "Adam(beta1)": (lambda: optim.Adam(VAE4.parameters(), beta1="0.9"), "^Adam: beta1 must be a finite number"),
    "Adam(eps)": (lambda: optim.Adam(VAE4.parameters(), eps=None), "^Adam: eps must be a finite number"),
    "SGD(momentum)": (lambda: optim.SGD(VAE4.parameters(), 0.1, momentum=1.0), "^SGD: momentum must lie in"),
    "Average(beta2)": (lambda: optim.Average(VAE4.parameters(), 1.0), "^Average: beta2 must lie in"),
    "step(array)": (lambda: optim.Adam([Parameter([1.0])]).step(np.ones(1)), "^Adam.step: needs a list of gradients"),
    "step(None)": (lambda: optim.Adam([Parameter([1.0])]).step(None), "^Adam.step: needs a list of gradients"),
    "step of a schedule": (
        lambda: optim.Adam([Parameter([1.0])], lambda step: "1").step([np.ones(1)]), "the step size at step 0 must be"),
    "constant": (lambda: optim.constant(-1.0), "^constant: step_size must be positive"),
    "inverse_sqrt": (lambda: optim.inverse_sqrt("1"), "^inverse_sqrt: step_size must be"),
    "linear": (lambda: optim.linear(1.0, 0.5, 0), "^linear: steps must be at least 1"),
    "linear(end)": (lambda: optim.linear(1.0, 0.0, 3), "^linear: end must be positive"),
    "linear(start)": (lambda: optim.linear(-1.0, 0.5, 3), "^linear: start must be positive"),
    "burda": (lambda: optim.burda(1.5), "^burda: steps_per_epoch must be an integer"),
    # ------------------------------------------------------------------------------- Hamiltonian Monte Carlo
    "leapfrog(steps)": (lambda: mcmc.leapfrog(ZERO, Z, Z, 0.1, 1.5), "^leapfrog: steps must be an integer"),
    "leapfrog(step_size)": (lambda: mcmc.leapfrog(ZERO, Z, Z, "0.1", 1), "^leapfrog: step_size must be a finite"),
    "leapfrog(log_prob)": (lambda: mcmc.leapfrog(1, Z, Z, 0.1, 1), "^leapfrog: log_prob must be a function"),
    "hmc(rng)": (lambda: mcmc.hmc(ZERO, Z, 0, 0.1), "^hmc: rng must be a generator"),
    "hmc(error)": (lambda: mcmc.hmc(ZERO, Z, G(0), 0.1, 2, NAN), "^hmc: max_energy_error must be a finite"),
    "DualAveraging": (lambda: mcmc.DualAveraging("1"), "^DualAveraging: step_size must be"),
    "DualAveraging(target)": (lambda: mcmc.DualAveraging(0.1, 1.0), "^DualAveraging: target must lie"),
    "DualAveraging(gamma)": (lambda: mcmc.DualAveraging(0.1, gamma=0.0), "^DualAveraging: gamma must be positive"),
    "DualAveraging.update": (lambda: mcmc.DualAveraging(0.1).update([]), "the number of chains must be"),
    "DualAveraging.state": (lambda: setattr(mcmc.DualAveraging(0.1), "state", [1.0]), "pass another one's state"),
    "ais(temperatures)": (lambda: mcmc.ais(ZERO, Z, G(0), ["0", "1"], 0.1), "the temperatures must rise"),
    "ais(step sizes)": (lambda: mcmc.ais(ZERO, Z, G(0), [0, 0.5, 1], [0.1] * 3), "or one for each of 2 moves"),
    "ais(rng)": (lambda: mcmc.ais(ZERO, Z, None, [0, 1], 0.1), "^ais: rng must be a generator"),
    "ais(z)": (lambda: mcmc.ais(ZERO, 1.0, G(0), [0, 1], 0.1), "^ais: z is a number"),
    # ------------------------------------------------------------------------------------------- evaluation
    **{
        f"evaluation.{name}({what})": (lambda call=call, m=m, x=x, k=k, rng=rng: call(m, x, rng, k), words)
        for name, call in (
            ("elbo", evaluation.elbo), ("log_likelihood", evaluation.log_likelihood), ("bound", evaluation.bound))
        for what, m, x, k, rng, words in (
            ("0..255", VAE4, GREY, 2, G(0), "divide 8-bit grey by 255"),
            ("NaN", VAE4, LOST, 2, G(0), rf"^{name}: x of shape .* has nan at \(2, 1\)"),
            ("(D,)", VAE4, X[0], 2, G(0), f"^{name}: x has shape"),
            ("a list", VAE4, X.tolist(), 2, G(0), f"^{name}: x must be an array"),
            ("samples", VAE4, X, 0, G(0), f"^{name}: samples must be"),
            ("samples=1.5", VAE4, X, 1.5, G(0), f"^{name}: samples must be"),
            ("rng", VAE4, X, 2, 0, f"^{name}: rng must be"),
            ("model", "vae", X, 2, G(0), f"^{name}: model must be an object with"),
        )
    },
    "elbo(batch)": (lambda: evaluation.elbo(VAE4, X, G(0), batch=0), "^elbo: batch must be"),
    "log_prob(model)": (lambda: evaluation.log_prob(VAE4, X), "^log_prob: model must be an object with log_prob"),
    "log_prob(a list)": (lambda: evaluation.log_prob(make_made(), X.tolist()), "^log_prob: x must be an array"),
    "log_prob(batch)": (lambda: evaluation.log_prob(make_made(), X, batch=0), "^log_prob: batch must be"),
    "bound(function)": (lambda: evaluation.bound(VAE4, X, G(0), 2, "iwae"), "^bound: function must be"),
    "difference": (lambda: evaluation.difference(1.0, 2.0), "^difference: a must be an object with values"),
    "LayeredVAE.encode(NaN)": (lambda: LAYERED.encode(LOST), "^LayeredVAE.encode: x of shape .* has nan"),
    "burda(0)": (lambda: optim.burda(1, 0.0), "^burda: step_size must be"),
    "inverse_sqrt(0)": (lambda: optim.inverse_sqrt(0.0), "^inverse_sqrt: step_size must be"),
    "difference(b)": (
        lambda: evaluation.difference(evaluation.elbo(VAE4, X, G(0)), 2.0), "^difference: b must be an object with"),
    "ssim(a row)": (lambda: evaluation.ssim(X[0], X, (2, 2)), "^ssim: x has shape .4,.; pass images as rows"),
    "ssim(rows, a row)": (lambda: evaluation.ssim(X, X[0], (2, 2)), "^ssim: y has shape .4,.; pass images as rows"),
    "ssim(x 0..255)": (lambda: evaluation.ssim(GREY, X, (2, 2)), "^ssim: x has values from 0.0 to 255.0"),
    "ssim(y 0..255)": (lambda: evaluation.ssim(X, GREY, (2, 2)), "^ssim: y has values from 0.0 to 255.0"),
    "active_units(x)": (lambda: evaluation.active_units(VAE4, LOST), "^active_units: x of shape .* has nan"),
    "active_units(threshold)": (lambda: evaluation.active_units(VAE4, X, -1.0), "^active_units: threshold must be"),
    "active_units(rng)": (lambda: evaluation.active_units(VAE4, X, rng=0), "^active_units: rng must be"),
    "ssim(size)": (lambda: evaluation.ssim(X, X, (3, 3)), "are not of shape .3, 3."),
    "ssim(shape)": (lambda: evaluation.ssim(X, X, 4), "^ssim: shape must be a sequence"),
    "from_log_weights": (lambda: evaluation.from_log_weights(X[0]), "^from_log_weights: log_w has shape"),
    "from_log_weights(0)": (lambda: evaluation.from_log_weights(X[:0]), "^from_log_weights: log_w has shape"),
    "from_log_weights(NaN)": (lambda: evaluation.from_log_weights(LOST), "no data or NaN"),
    "quadrature(grey)": (lambda: evaluation.log_likelihood_by_quadrature(VAE4, GREY), "divide 8-bit grey by 255"),
    "quadrature(NaN)": (lambda: evaluation.log_likelihood_by_quadrature(NORMAL4, LOST), r"has nan at \(2, 1\)"),
    "quadrature(points)": (lambda: evaluation.log_likelihood_by_quadrature(VAE4, X, 1.5), "points must be an integer"),
    "quadrature(limit)": (lambda: evaluation.log_likelihood_by_quadrature(VAE4, X, 9, "5"), "limit must be a finite"),
    "gradient_moments": (lambda: evaluation.gradient_moments(None, 2), "gradient must be a function"),
    "gradient_moments(1)": (lambda: evaluation.gradient_moments(lambda: [X], 1), "draws must be an integer"),
    "squared_snr": (
        lambda: evaluation.gradient_moments(lambda: [X], 3).squared_snr(), "draws must be an integer, at least 4"),
    # ------------------------------------------------------------------------------------------- fit
    "fit(epochs=1.5)": (lambda: train(epochs=1.5), "^fit: epochs must be an integer; got 1.5"),
    "fit(batch_size=0)": (lambda: train(batch_size=0), "^fit: batch_size must be an integer, at least 1"),
    "fit(rng=0)": (lambda: train(rng=0), "^fit: rng, a minivi.Generator, must be an object with state"),
    "fit(a list)": (lambda: train(train=X.tolist()), "^fit: train, an array or a tuple of such, must be"),
    "fit(no data)": (lambda: train(train=X[:0]), "^fit: .0. data; pass one or more"),
    "fit(NaN)": (lambda: train(train=LOST), r"^fit: train of shape .* has nan at \(2, 1\), .*; clean the data"),
    "fit(unequal)": (lambda: train(train=(X, X[:3])), "^fit: .6, 3. data; pass one or more, as many in each"),
    "fit(grey)": (lambda: train(train=GREY), "divide 8-bit grey by 255"),
    "fit(patience)": (lambda: train(patience=0, monitor="loss"), "^fit: patience must be"),
    "fit(checkpoint_seconds)": (lambda: train(checkpoint_seconds=-1), "^fit: checkpoint_seconds must be"),
    "fit(prepare)": (lambda: train(prepare="binarize"), "^fit: prepare must be a function"),
    "fit(evaluate)": (lambda: train(evaluate=1), "^fit: evaluate must be a function"),
    "fit(loss)": (lambda: train(loss=1.0), "^fit: loss must be a function"),
    "fit(model)": (lambda: fit(None, print, None, X, epochs=1, rng=G(0)), "^fit: model must be an object with"),
    "fit(optimizer)": (lambda: train(optimizer="adam"), "^fit: optimizer must be an object with step"),
    "fit(another's)": (
        lambda: train(optimizer=optim.Adam(VAE4.parameters())), "the optimizer has none of the model's parameters"),
    "fit(a copy's)": (
        lambda: train(model=VAE4.astype("float64"), train=X.astype(float), optimizer=optim.Adam(VAE4.parameters())),
        "none of the model's parameters"),
    "fit(no mean)": (lambda: train(lambda x, rng: VAE4.elbo(x, rng)), r"loss is of shape \(6,\); .*.mean\(\)"),
    "fit(no return)": (lambda: train(lambda x, rng: None), "loss is a NoneType; return a scalar Tensor"),
    "fit(a float)": (lambda: train(lambda x, rng: 1.0), "loss is a float; return a scalar Tensor"),
    # ------------------------------------------------------------------------------------------- random numbers
    "normal(loc)": (lambda: G(0).normal(NAN), "normal: the location must be finite"),
    "normal(None)": (lambda: G(0).normal(None), "normal: parameters must be numbers"),
    "uniform(None)": (lambda: G(0).uniform(None), "uniform: parameters must be numbers"),
    "exponential('a')": (lambda: G(0).exponential("a"), "exponential: parameters must be numbers"),
    "bernoulli('a')": (lambda: G(0).bernoulli("a"), "bernoulli: parameters must be numbers"),
    "choice(p)": (lambda: G(0).choice(2, p="a"), "choice: parameters must be numbers"),
    "spawn": (lambda: G(0).spawn([2, 1]), "spawn: n must be an integer"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused(case):
    call, words = CASES[case]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: G(0).shuffle((1, 2)), "shuffle: needs an array or a list"),
        (lambda: G(0).shuffle(5), "shuffle: needs an array or a list"),
        (lambda: G(0).random(3, dtype="abc"), "random: 'abc' is no dtype"),
        (lambda: G(0).normal(dtype=object()), "normal: .* is no dtype"),
        (lambda: G(0).integers(5, dtype=float), "integers: dtype must be an integer one"),
        (lambda: make_vae(dtype="float16"), "float16"),
    ],
)
def test_types_refused(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_one_nan_pixel_is_named_and_not_a_vjp():
    """A NaN that appears while training, not in the data that fit has looked at."""
    loss = lambda x, rng: -NORMAL4.elbo(x, rng).mean()
    prepare = lambda x, rng: np.where(np.arange(x.size).reshape(x.shape) == 9, np.float32(np.nan), x)
    with pytest.raises(ValueError, match=r"VAE.encode: x of shape \(6, 4\) has nan at \(2, 1\).*; clean the data"):
        train(loss, NORMAL4, optimizer=optim.Adam(NORMAL4.parameters()), prepare=prepare)
    layer = nn.Linear(4, 1, G(0))  # a model of the user's, which looks at nothing
    with pytest.raises(TrainingError, match=r"argument 0 of affine, a constant, has nan at \(2, 1\).*: clean the data"):
        train(lambda x, rng: layer(x).sum(), layer, optimizer=optim.Adam(layer.parameters()), prepare=prepare)


def test_full_vb_uses_all_draws_of_eps():
    """Three draws of eps alone are three samples, each with weights of its own from rng."""
    eps = np.asarray(G(3).standard_normal((3, 6, 2), dtype=np.float32))
    rng = G(5)
    zeta = [FULL.noise(rng) for _ in range(3)]
    np.testing.assert_array_equal(FULL.elbo(X, G(5), eps=eps).data, FULL.elbo(X, eps=eps, zeta=zeta).data)
    assert np.isfinite(LOCAL.elbo(X, G(0), eps=eps).data).all()


def test_what_is_right_is_not_refused():
    """Grey pixels, both ends, -0.0, both dtypes, Tensors as data, NumPy's generators and integers, extra parameters."""
    grey = np.asarray(G(1).random((6, 4), dtype=np.float32))
    grey[0] = [0.0, -0.0, 1.0, 0.5]
    for model in (VAE4, LAYERED, GRAPH):
        assert model.log_weights(grey, G(0), np.int64(2)).shape == (2, 6)
        assert model.log_weights(Tensor(grey), G(0)).shape == (1, 6)
        assert model.log_weights(grey[:, ::-1].T.copy().T, np.random.default_rng(0)).shape == (1, 6)
    assert VAE4.astype("float64").log_weights(grey.astype(float), G(0)).shape == (1, 6)
    assert VAE4.log_weights(X.astype(np.uint8), G(0)).shape == (1, 6)
    assert VAE4.decode(np.zeros((3, 6, 2), np.float32)).logits.shape == (3, 6, 4)
    assert isinstance(NORMAL4.terms(2 * grey - 1, G(0)), Terms)
    assert bounds.ciwae(Tensor(X), Tensor(np.float32(0.5))).shape == (4,)
    assert bounds.warm_up(0, 0) == bounds.warm_up(7, 5) == 1.0 and bounds.warm_up(np.int64(1), 4) == 0.25
    assert [len(a) for a in VAE4.sample(0, G(0))] == [0, 0]
    optim.Adam((p for p in VAE4.parameters()), np.float32(1e-3))
    model, extra = make_vae(), Parameter(np.zeros(1, np.float32))  # a baseline beside part of a model
    optimizer = optim.Adam([*model.decoder.parameters(), extra])
    before = model.encoder.state_dict()
    train(
        lambda x, rng: -model.elbo(x, rng).mean() + (extra * extra).sum(),
        model,
        optimizer=optimizer,
        epochs=np.int64(1),
    )
    for name, value in model.encoder.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert grad(VAE4.elbo(X, G(0)).mean(), VAE4.parameters())[0].shape == (4, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "bool"])
def test_unit_interval(dtype):
    """The quick look at the bits, against comparisons."""
    values = [0.0, 1.0, 0.5, 1e-40] + ([-0.0, -1e-30, np.nextafter(np.dtype(dtype).type(1), 2), np.nan, np.inf, -np.inf]
                                       if dtype[0] == "f" else [2])  # fmt: skip
    for value in values:
        x = np.full((3, 4), 0.25 if dtype[0] == "f" else 0).astype(dtype)
        x[1, 2] = value
        right = bool(np.all((x >= 0) & (x <= 1)))
        for array in (x, x.T, x[:, ::2]):
            if right:
                validate.unit_interval(array, "x")
            else:
                with pytest.raises(ValueError, match="x .*(255|clean the data)"):
                    validate.unit_interval(array, "x")
