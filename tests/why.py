"""Why a claim does not hold: the small runs behind `docs/misses.md`, at most two minutes of CPU time each.

    python tests/why.py             the names, and what each shows
    python tests/why.py ring        one of them; those of images need MNIST (`minivi data fetch mnist`)

They are no tests: each changes one thing in a study of `chapters/studies`, and prints what becomes of its numbers.
"""

import copy
import sys

import numpy as np

from minivi import bounds, data, estimators, evaluation, nn, optim
from minivi.experiments import load_chapters
from minivi.models import VAE, dropout_network
from minivi.random import Generator
from minivi.tensor import no_grad
from minivi.training import fit

RUNS = {}


def study(name):
    """A module of ``chapters/studies``."""
    load_chapters()
    return sys.modules[f"minivi_chapters.studies.{name}"]


def why(function):
    """Put a run on the list."""
    RUNS[function.__name__] = function
    return function


def settings(budgets, **changes):
    """Those of the `laptop` budget, with changes."""
    return type("Settings", (), budgets["laptop"] | changes)


class Run:
    """As much of a run as ``fitted`` of ``ch05_flows`` needs."""

    seed = 0

    def fit(self, name, model, loss, optimizer, x, **options):
        """Train without files."""
        return fit(model, loss, optimizer, x, progress=False, **options)


def mnist():
    """60,000 images and 10,000."""
    return data.load("mnist", "60000/10000")


@why
def useful():
    """Section 2.10: other weights of the VAE's KL term. More than the bound's 1 reads better."""
    s = settings(study("ch02_autoencoder.useful").USEFUL)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    images = mnist()
    order = Generator([0, 31]).permutation(len(images.train))[: s.labels]
    for weight in (0.3, 1.0, 2.0, 3.0, 5.0):
        model = VAE(784, (s.hidden,), s.latents, rng=Generator([0, 32]), init=nn.glorot)

        def loss(x, rng, model=model, weight=weight):
            reconstruction, q = model.reconstruction_and_posterior(x, rng)
            return -(reconstruction - weight * q.kl()).mean()

        fit(
            model, loss, optim.Adam(model.parameters(), 1e-3), images.train, epochs=s.epochs, batch_size=100,
            rng=Generator([0, 33]), prepare=data.fresh, progress=False,
        )  # fmt: skip
        with no_grad():
            few, test = (np.asarray(model.encode(x).mu, float) for x in (images.train[order], images.test))
        reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(few, images.train_labels[order])
        print(f"KL times {weight:g}: {100 * np.mean(reader.predict(test) != images.test_labels):.2f} % errors")


@why
def free_bits():
    """Section 2.9.1: lambda = 2 by minibatches of 100 and 400. What is missing is the noise of a minibatch's mean."""
    c = study("ch02_challenges.collapse")
    s, images = settings(c.COLLAPSE), mnist()
    first = c.StrongDecoderVAE(784, (s.hidden,), s.latents, nn.logit_of_mean(images.train), Generator([0, 1]))
    nothing = np.zeros((1, s.latents), first.dtype)
    fit(
        first, lambda x, rng: -first.decode(nothing).log_prob(x).mean(),
        optim.Adam([first.weight, first.bias], s.step_size), images.train, epochs=s.first_epochs, batch_size=s.batch,
        rng=Generator([0, 3]), prepare=data.fresh, progress=False,
    )  # fmt: skip
    seen = data.fresh(images.train[:10_000], Generator(4))
    for batch in (100, 400):
        model, half = copy.deepcopy(first), s.epochs * -(-60_000 // batch) / 2
        optimizer = optim.Adam(model.parameters(), lambda step, half=half: s.step_size * min(1.0, 2.0 - step / half))

        def loss(x, rng, model=model):
            reconstruction, q = model.reconstruction_and_posterior(x, rng)
            return -bounds.free_bits(reconstruction, q.kl_per_dimension(), 2.0)

        fit(
            model, loss, optimizer, images.train, epochs=s.epochs, batch_size=batch, rng=Generator([0, 2]),
            prepare=data.fresh, progress=False,
        )  # fmt: skip
        kl = np.asarray(model.encode(seen).kl_per_dimension(), float)
        means = kl.reshape(-1, batch, s.latents).mean(axis=1)
        print(
            f"minibatches of {batch}: KL by latent {np.round(np.sort(kl.mean(axis=0)), 3)}, a minibatch's mean varies "
            f"by {means.std(axis=0).mean():.3f}, {np.mean(means > 2):.0%} of these means are above 2"
        )


@why
def ring():
    """Section 2.9.2: the ring's VAE decoded from codes of data, and from the prior, which fills the hole."""
    v = study("ch02_challenges.variance")
    s = settings(v.VARIANCE)
    for seed in (0, 1):
        train = v.ring(s.count, Generator([seed, 4])).astype("float32")
        vae = VAE(2, (s.hidden,), 2, "gaussian", rng=Generator([seed, 5]))
        optimizer = optim.Adam(vae.parameters(), s.step_size)

        def loss(x, rng, vae=vae, optimizer=optimizer):
            reconstruction, q = vae.reconstruction_and_posterior(x, rng)
            return -(reconstruction - bounds.warm_up(optimizer.steps, 3000) * q.kl()).mean()

        fit(vae, loss, optimizer, train, epochs=s.epochs, batch_size=100, rng=Generator([seed, 6]), progress=False)
        rng = Generator(77)
        with no_grad():
            codes = np.asarray(vae.encode(v.ring(50_000, rng).astype("float32")).sample(rng))
            prior = rng.standard_normal(codes.shape, dtype="float32")
            for name, z in (("codes of data", codes), ("the prior", prior)):
                x, near = np.asarray(vae.decode(z).sample(rng)), np.linalg.norm(z, axis=1) < 0.5
                print(f"z from {name}: total variance {v.spread(x)[0]:.3f}, |z| < 0.5 in {near.mean():.1%} of draws")


@why
def regression():
    """Section 2.10.1: more data and more coefficients. At the prior the factor grows with both, to a hundred."""
    r = study("ch02_gradients.regression")
    for count, size in ((100, 100), (100, 300), (1000, 10), (1000, 100), (1000, 300)):
        rng = Generator([0, size, 0])
        x = rng.standard_normal((count, size)) / np.sqrt(size)
        y = np.tanh(x @ rng.standard_normal(size)) + rng.standard_normal(count)
        _, controlled, path = r.variances(np.zeros(size), np.zeros(size), x, y, rng, 15_000)
        print(f"{count} data, {size} coefficients: {controlled / path:.0f} times")


@why
def imputation():
    """Appendix 2.D.2.2: the same VAE by one chain, by several, and by weighted codes. The chain is at fault."""
    m = study("ch02_latent_space.missing")
    images = mnist()
    vae = VAE(784, (500,), 20, "bernoulli", rng=Generator([0, 20]), init=nn.glorot)
    fit(
        vae, lambda x, rng: -vae.elbo(x, rng).mean(), optim.Adam(vae.parameters(), 1e-3, weight_decay=1 / 60_000),
        images.train, epochs=10, batch_size=100, rng=Generator([0, 1]), prepare=data.fresh, progress=False,
    )  # fmt: skip
    x, mean = data.fresh(images.test[:200], Generator(51)), images.train.mean(axis=0)
    missing = m.MASKS["lower half"](images.shape, None)
    show = lambda name, guess: print(f"{name}: {m.nats(guess, x, missing).mean():.1f} nats")
    chains = [m.impute(vae, x, missing, mean, 60, Generator([0, 53, k])) for k in range(6)]
    show("the mean pixel", np.broadcast_to(mean, x.shape))
    show("one chain", chains[0])
    right = np.where(x > 0.5, chains[0], 1 - chains[0])[:, missing]
    sure = np.sum(-np.log(np.clip(right, 1e-3, 1)) * (right < 0.05), axis=1)
    print(f"of these, pixels to whose value it gave less than 0.05: {sure.mean():.1f} nats")
    show("mean of six chains", np.mean(chains, axis=0))
    with no_grad():
        codes = np.asarray(vae.encode(images.train[:20_000]).sample(Generator(62)))
        p = np.clip(np.asarray(vae.decode(codes).mean, float), 1e-6, 1 - 1e-6)
    seen = x[:, ~missing] @ np.log(p[:, ~missing]).T + (1 - x[:, ~missing]) @ np.log(1 - p[:, ~missing]).T
    weights = np.exp(seen - seen.max(axis=1, keepdims=True))
    show("20,000 codes, weighted by the half that is seen", weights / weights.sum(axis=1, keepdims=True) @ p)


@why
def radial():
    """Section 5.5: radial flows of depth 8 by other seeds, and by four times as many steps."""
    e, shared = study("ch05_flows.energies"), study("ch05_flows._shared")
    s, run = settings(e.ENERGY), Run()
    for epochs, seeds in ((16, (0, 1)), (64, (0,))):
        for run.seed in seeds:
            gaps = []
            for name in e.EVERY:
                q = shared.Approximation(2, shared.make_flow("radial", 2, 8, 32, Generator([run.seed, 62, 2, 8])))
                gaps.append(shared.fitted(run, s, "", q, e.energy(name), epochs, epochs).column("gap")[-1])
            print(f"{epochs * s.steps} steps, seed {run.seed}: KL(q || p) {np.mean(gaps):.2f} nats")


@why
def deep():
    """Section 5.3.1: 8 and 32 steps of IAF on one energy, trained as in the study and four times as long."""
    e, shared = study("ch05_flows.energies"), study("ch05_flows._shared")
    s, run = settings(e.ENERGY), Run()
    for depth, epochs in ((8, 16), (32, 16), (8, 64), (32, 64)):
        q = shared.Approximation(2, shared.make_flow("IAF", 2, depth, 32, Generator([0, 62, 2, depth])))
        with no_grad():
            width = np.std(np.asarray(q.flow.forward(Generator(1).standard_normal((10_000, 2), dtype="float32"))[0]))
        gap = shared.fitted(run, s, "", q, e.energy("U1"), epochs, epochs).column("gap")[-1]
        print(f"depth {depth}, {epochs * s.steps} steps: starts with a width of {width:.3f}, KL(q || p) {gap:.2f} nats")


@why
def planar():
    """Section 5.2.2: 8 and 32 planar steps in 128 dimensions, from random directions and from one of each pair's."""
    c, shared = study("ch05_flows.scaling"), study("ch05_flows._shared")
    target, run, pairs = c.bananas(128), Run(), c.order(128)

    def gap(q, epochs, step_size):
        s = settings(c.SCALING, step_size=step_size, last_draws=20_000)
        history = shared.fitted(run, s, "", q, target, epochs, epochs)
        return f"{history.column('gap')[-1] / 128:.4f} +- {history.column('error')[-1] / 128:.4f} nats a dimension"

    gaussian = shared.Approximation(128, shared.make_flow("Gaussian", 128, 0, 32, Generator([0, 62, 128, 0])))
    print("Gaussian:", gap(gaussian, 40, 2e-2))
    for depth, epochs, step_size, start in (
        (8, 20, 5e-3, "random"), (32, 20, 5e-3, "random"), (32, 80, 2e-3, "random"), (8, 20, 5e-3, "of the pairs"),
        (32, 20, 5e-3, "of the pairs"),
    ):  # fmt: skip
        flow = shared.make_flow("planar", 128, depth, 256, Generator([0, 62, 128, depth]))
        q = shared.Approximation(128, flow)
        shared.start_from(q, gaussian, "planar", depth)
        for k, step in enumerate(flow.flows if start != "random" else ()):
            numbers, w = np.array(step.head.values.data), pairs[:, k]  # u, w, b; the first of pair k
            numbers[:256] = np.concatenate([np.log(np.e - 1) * w, w])
            step.head.values.assign(numbers)
        print(f"{depth} steps, directions {start}, trained for {50 * epochs}:", gap(q, epochs, step_size), flush=True)


@why
def logistic():
    """Section 7.5.1: are the pixels' scales what holds SGD back? Six epochs, each at the best of a grid."""
    images = mnist()
    x, labels = images.train, images.train_labels.astype(int)
    spread = x.std(axis=0)
    scaled = np.where(spread > 0.01, (x - x.mean(axis=0)) / np.maximum(spread, 0.01), 0).astype(x.dtype)

    def loss(x, momentum, step_size):
        rng, losses = np.random.default_rng(0), []
        w, velocity, squares = np.zeros((3, 785, 10), x.dtype)
        for t in range(1, 6 * 468 + 1):
            if t % 468 == 1:
                order = rng.permutation(len(x))
            rows = order[(t - 1) % 468 * 128 :][:128]
            batch = np.concatenate([x[rows], np.ones((128, 1), x.dtype)], axis=1)
            p = np.exp(batch @ w - np.max(batch @ w, axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            losses.append(-np.log(p[np.arange(128), labels[rows]] + 1e-12).mean())
            p[np.arange(128), labels[rows]] -= 1
            g = batch.T @ p / 128 + 1e-4 * w
            if momentum is None:
                squares += g * g
                w -= step_size * g / (np.sqrt(squares) + 1e-8)
            else:
                velocity = momentum * velocity + g
                w -= step_size / np.sqrt(t) * (g + momentum * velocity)
        return np.mean(losses)

    for name, pixels, adagrad, sgd in (("as they are", x, 0.1, 0.99), ("of variance 1", scaled, 0.03, 0.9)):
        print(f"pixels {name}: AdaGrad {loss(pixels, None, adagrad):.3f}, SGD {loss(pixels, sgd, 0.3):.3f} nats")


@why
def singles():
    """Section 6.5.1: the ratio of data one by one over local noise, six times on one network of 200 units a layer."""
    v, images = study("ch06_dropout.variance"), data.load("mnist", "50000/10000/10000")
    network = dropout_network((784, 200, 200, 200, 10), "variational B", Generator([0, 60]))
    fit(
        network, lambda part, rng: -network.bound(*part, rng, count=50_000).mean(),
        optim.AveragedAdam(network.parameters()), (images.train, images.train_labels.astype(np.int64)), epochs=10,
        batch_size=1000, rng=Generator([0, 61]), progress=False,
    )  # fmt: skip
    share = v.chances(network, images, Generator([0, 64]), passes=3)
    for seed in range(6):
        found = [
            v.of_single_data(network, images, how, [0, 69, seed], 1000, 1000, share)[1] for how in ("datum", "local")
        ]
        error = np.hypot(*(spread / value for value, spread in found)) / np.log(2)
        print(f"bottom layer: log2 {np.log2(found[0][0] / found[1][0]):.2f} +- {error:.2f}", flush=True)


@why
def online():
    """Section 7.7: a target that drifts, by Adam with a shorter first moment; sparse gradients, a longer second."""
    o = study("ch07_adam.online")
    s = settings({"laptop": {}}, draws=300, steps=3000)
    adams = {f"Adam, beta1 = {b}": lambda p, a, m, b=b: optim.Adam(p, a, beta1=b, beta2=m) for b in (0.9, 0.5, 0.0)}
    o.OPTIMIZERS.update(adams)
    for way in o.WAYS[1:]:
        for name in ("RMSProp", *adams):
            tried = [o.followed(name, a, m, way, s, 0)[0].mean() for a in (0.018, 0.032, 0.056) for m in o.MEMORIES]
            print(f"{way}, {name}: squared distance {min(tried):.4f}", flush=True)
    print(f"sparse, AdaGrad: squared distance {o.followed('AdaGrad', 0.56, 0, 'sparse', s, 0)[0].mean():.4f}")
    for beta2 in (0.999, 0.99999):  # "Adam": the study knows by this name whose steps fall
        off, _ = o.followed("Adam", 0.56, beta2, "sparse", s, 0)
        print(f"sparse, Adam, beta2 = {beta2}: squared distance {off.mean():.4f}", flush=True)


@why
def samples():
    """Review report 4.1.2: after 40 epochs training is far from its end: one sample, and five times as many epochs."""
    images = mnist()
    train, test = images.train[:10_000], data.fresh(images.test, Generator(2))
    for count, epochs in ((1, 40), (5, 40), (1, 200)):
        vae = VAE(784, (400,), 20, rng=Generator([0, 400, 20]), init=nn.glorot)
        optimizer = optim.Adam(vae.parameters(), optim.linear(1e-3, 1e-5, epochs * 100))
        fit(
            vae, lambda x, rng, vae=vae, count=count: -vae.elbo(x, rng, count).mean(), optimizer, train, epochs=epochs,
            batch_size=100, rng=Generator([0, 1]), prepare=data.fresh, progress=False,
        )  # fmt: skip
        print(f"L = {count}, {epochs} epochs: test bound {evaluation.elbo(vae, test, Generator(4)).mean:.2f}")


@why
def wake_sleep():
    """Figure 2.5: wake-sleep with 200 latents falls, because the encoder's means grow on data, but not on dreams."""
    images = mnist()
    test = data.fresh(images.test[:500], Generator(2))
    vae = VAE(784, (500,), 200, rng=Generator([0, 200]), init=nn.glorot)
    optimizer = optim.Adam(vae.parameters(), 1e-3)
    for count in (400, 400, 600):
        fit(
            vae, lambda x, rng: -estimators.wake_sleep(vae, x, rng).mean(), optimizer, images.train[: 100 * count],
            epochs=1, batch_size=100, rng=Generator([0, 1, count]), prepare=data.fresh, progress=False,
        )  # fmt: skip
        with no_grad():
            dreams, (z, *_) = vae.dream(500, Generator(8))
            q, q_dreams = vae.encode(test), vae.encode(dreams)
            kl = np.mean(np.asarray(q.kl()))
            off = (np.asarray(z) - np.asarray(q_dreams.mu)) / np.exp(np.asarray(q_dreams.log_sigma))
        print(
            f"step {optimizer.steps}: bound {evaluation.elbo(vae, test, Generator(9)).mean:.1f}, KL {kl:.1f} nats; "
            f"mean of mu^2 on data {np.mean(np.asarray(q.mu) ** 2):.2f}, on dreams "
            f"{np.mean(np.asarray(q_dreams.mu) ** 2):.2f}; ((z - mu) / sigma)^2 on dreams {np.mean(off**2):.2f}; "
            f"mean pixel of dreams {np.mean(np.asarray(dreams)):.3f}, of data {test.mean():.3f}"
        )


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in RUNS:
        RUNS[sys.argv[1]]()
    else:
        sys.exit("\n".join(f"{name:12} {function.__doc__}" for name, function in RUNS.items()))
