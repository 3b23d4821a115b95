"""Exercises: flows and auxiliary variables for better posteriors (thesis chapter 5).

Beside the lessons `chapters/ch05_flows.py`, `ch05_iaf.py` and `ch05_auxiliary.py`. Replace each `raise
NotImplementedError` by your code, then run `minivi grade chapters/exercises/ch05_flows.py`. NumPy is all that is
needed. z are B draws of D numbers, one a row. Logarithms are natural, densities' in nats. No function may write into
its arguments.
"""

# %%
import numpy as np

# %% [teacher]
from scipy.linalg import lu, null_space
from scipy.special import expit, log_expit
from scipy.stats import norm

from minivi.exercises import Case, Source, task


def log_det(f, z):
    """log |det df / dz| at one row, by central differences."""
    return np.linalg.slogdet(np.array([(f(z + e) - f(z - e)) / 2e-5 for e in 1e-5 * np.eye(len(z))]))[1]


def network(rng, dims, scale=1.0, context=False):
    """A small autoregressive network, m and s of z: the coordinates before i give the i-th of both."""
    a, b = (np.triu(rng.normal(size=(dims, dims)), 1).round(3).tolist() for _ in range(2))
    c = np.append(rng.uniform(-2, -1), rng.normal(size=dims - 1)).round(3).tolist()
    more, end = (", h", " + 2 * np.tanh(h)") if context else ("", "")
    return Source(
        f"lambda z{more}: (np.tanh(z @ np.array({a}) + 1){end}, {scale} * (z @ np.array({b}) + np.array({c})){end})"
    )


def step(z, f, gate, *context):
    """A step for one row, number by number."""
    m, s = f.function(z, *context)
    share = [expit(s[i] + gate) for i in range(len(z))]
    return np.array([share[i] * z[i] + (1 - share[i]) * m[i] for i in range(len(z))])


# %% [markdown]
# ## A planar step
#
# h is tanh. Give the images of the draws z, and the logarithm of what the step does to a volume at each of them.


# %%
def planar(z, u, w, b):
    """f(z), (B, D), and log |det df / dz|, (B,); z (B, D), u and w (D,), b a number."""
    # [solution]
    t = np.tanh(z @ w + b)
    det = 1 + (1 - t**2) * (w @ u)
    return z + t[:, None] * u, np.log(np.abs(det))
    # [end]


# %% [teacher]
@task("planar", 2, "code", "thesis eq. 5.15 and 5.17", mistakes=[
    ("np.log(np.abs(det))", "np.log(det)", "a determinant can be negative: a volume cannot"),
    ("np.log(np.abs(det))", "np.abs(det)", "the logarithm is asked for"),
    ("np.log(np.abs(det))", "-np.log(np.abs(det))", "log |det df / dz| itself: the density comes later"),
    ("1 + (1 - t**2)", "(1 - t**2)", "z is a part of f(z): its Jacobian is the identity"),
    ("(1 - t**2)", "(1 - t)", "what is the derivative of tanh, by its own value?"),
    ("(1 - t**2) * ", "", "tanh has a derivative"),
    ("(w @ u)", "np.sum(w) * np.sum(u)", "the determinant of I + v w^T is 1 + w^T v"),
    ("t[:, None] * u", "t[:, None] * w", "z is moved along u; w says by how much"),
])  # fmt: skip
def _(rng):
    for along in (0.5, -2.5):
        w, b = rng.normal(size=3), float(rng.normal())
        u = rng.normal(size=3)
        u, z = u + (along - w @ u) * w / (w @ w), rng.normal(size=(5, 3))
        z[0] = -b * w / (w @ w)  # where tanh is steepest
        f = lambda row, u=u, w=w, b=b: row + np.tanh(sum(row * w) + b) * u
        yield Case((z, u, w, b), [np.array([f(row) for row in z]), np.array([log_det(f, row) for row in z])], rtol=1e-5)


# %% [markdown]
# ## A step that can be undone
#
# A planar step can be undone where w.u is above -1. So u is replaced by another vector: moved along w alone, until its
# product with w is softplus(w.u) - 1. Derive it.


# %%
def bounded(u, w):
    """The vector in the place of u, (D,)."""
    # [solution]
    along = w @ u
    return u + (np.logaddexp(0, along) - 1 - along) * w / (w @ w)
    # [end]


# %% [teacher]
@task("bounded", 2, "derive", "thesis eq. 5.17; lesson ch05_flows, section 1", mistakes=[
    (" / (w @ w)", "", "multiply your vector by w: is it softplus(w.u) - 1 for a w of any length?"),
    ("/ (w @ w)", "/ np.sqrt(w @ w)", "a unit vector along w, times a length: multiply your vector by w once more"),
    (" - 1 - along)", " - 1)", "what u has along w already must be taken off"),
    (" - 1 - along)", " - along)", "softplus is above 0: what has to be above -1?"),
    ("* w / (w @ w)", "* u / along", "moved along w alone, not along u"),
    ("np.logaddexp(0, along)", "np.exp(along)", "softplus(a) is log(1 + exp(a))"),
    ("return u + ", "return ", "what u has across w stays"),
])  # fmt: skip
def _(rng):
    for dims in (2, 4):
        w, u = rng.normal(size=(2, dims))
        across = null_space(w[None]).T
        target = np.append(across @ u, np.log1p(np.exp(w @ u)) - 1)
        yield Case((u, w), np.linalg.solve(np.vstack([across, w]), target))


# %% [markdown]
# ## The fold
#
# Of a planar step nothing but a = w.z and c = w.f(z) need be looked at: c = a + w.u tanh(a + b). Before you plot it:
# how many points z have the image y with w.y = c?


# %%
def origins(c, along, b):
    """A number; c = w.y, along = w.u, and b."""
    # [solution]
    if along >= -1:
        return 1
    t = np.sqrt(1 + 1 / along)
    low, high = sorted(a + along * np.tanh(a + b) for a in (np.arctanh([-t, t]) - b))
    return 3 if low < c < high else 1
    # [end]


# %% [teacher]
@task("origins", 3, "predict", "thesis eq. 5.17; lesson ch05_flows, section 1", mistakes=[
    ("if along >= -1:", "if True:", "is c always growing with a? What is its slope, where tanh is steepest?"),
    ("return 3 if low < c < high else 1", "return 3", "far out the step only moves points: one origin each"),
    ("return 3 if", "return 2 if", "a line that goes up, down and up again is crossed how many times?"),
    (" - b)", ")", "where does tanh(a + b) bend?"),
    ("np.sqrt(1 + 1 / along)", "(1 + 1 / along)", "the fold turns where the slope is 0: solve for tanh itself"),
    ("a + along * np.tanh(a + b)", "along * np.tanh(a + b)", "z itself is a part of its image"),
    ("low < c < high", "-along > abs(c)", "the fold is narrower than the largest move: where does it turn?"),
])  # fmt: skip
def _(rng):
    each = "lambda f, cs, along, b: np.array([f(c, along, b) for c in cs])"
    a = np.linspace(-20, 20, 80_001)
    for along in (-0.9, 2.0, -1.8, -4.0):
        b = float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.0))
        curve = a + along * np.tanh(a + b)
        turns = curve[1:-1][np.diff(np.sign(np.diff(curve))) != 0]
        cs = np.concatenate([rng.uniform(-5, 5, 100), turns - 0.02, turns + 0.02])
        above = curve > cs[:, None]
        yield Case((cs, along, b), np.sum(above[:, 1:] != above[:, :-1], axis=1), driver=each)


# %% [markdown]
# ## The density after a chain
#
# The Jacobians of all steps are given, at the points that a draw goes through. The code below takes the bars of
# eq. 5.16 by the letter, as they are printed. Mend it. Determinants can be negative, and as small as 1e-500.


# %%
def log_density(log_p, jacobians):
    """log q(z | x), (B,); log p(eps_0), (B,), and the Jacobians of T steps, (T, B, D, D)."""
    # [solution]
    log_dets = np.linalg.slogdet(jacobians)[1]
    return log_p - log_dets.sum(axis=0)
    # [blank]
    # log_dets = np.log(np.linalg.det(np.abs(jacobians)))
    # return log_p - log_dets.sum(axis=0)
    # [end]


# %% [teacher]
@task("log_density", 2, "fault", "thesis eq. 5.15 and 5.16", mistakes=[
    ("np.linalg.slogdet(jacobians)[1]", "np.log(np.linalg.det(np.abs(jacobians)))",
     "of what is the absolute value taken: of each derivative, or of the determinant?"),
    ("np.linalg.slogdet(jacobians)[1]", "np.log(np.linalg.det(jacobians))", "a negative determinant has no logarithm"),
    ("np.linalg.slogdet(jacobians)[1]", "np.log(np.abs(np.linalg.det(jacobians)))",
     "a determinant can be smaller than the least number: NumPy has a function for its logarithm"),
    ("log_p - log_dets", "log_p + log_dets", "where the step spreads points out their density falls"),
    ("log_dets.sum(axis=0)", "log_dets[-1]", "each step changes the volume"),
    ("log_dets.sum(axis=0)", "log_dets.sum()", "each draw goes its own way"),
    ("log_dets.sum(axis=0)", "log_dets.mean(axis=0)", "determinants of a chain are multiplied"),
    ("np.linalg.slogdet(jacobians)[1]", "np.linalg.slogdet(jacobians)[0]", "the sign is not what is wanted of it"),
])  # fmt: skip
def _(rng):
    for dims, scale in ((3, 1.0), (30, 1e-18)):
        jacobians, log_p = scale * rng.normal(size=(3, 2, dims, dims)), rng.normal(size=2)
        signs = np.linalg.slogdet(jacobians)[0]
        signs[0, 0] *= -1  # of all determinants one is negative
        jacobians[:, :, 0] *= signs[..., None]
        chain = [jacobians[2, i] / scale @ jacobians[1, i] / scale @ jacobians[0, i] / scale for i in range(2)]
        found = [np.log(np.abs(np.diag(lu(whole)[2]))).sum() + 3 * dims * np.log(scale) for whole in chain]
        yield Case((log_p, jacobians), log_p - np.array(found), rtol=1e-9)


# %% [markdown]
# ## A step of inverse autoregressive flow
#
# `network(z)` gives m and s, each (B, D), whose coordinates i see z_1 ... z_{i-1}. The gate is sigmoid(s + gate). s can
# be a thousand, or minus that.


# %%
def iaf_step(z, network, gate):
    """The new z, (B, D), and log |det|, (B,)."""
    # [solution]
    m, s = network(z)
    s = s + gate
    sigma = 1 / (1 + np.exp(-s))
    return sigma * z + (1 - sigma) * m, -np.logaddexp(0, -s).sum(axis=1)
    # [end]


# %% [teacher]
@task("iaf_step", 3, "code", "thesis eq. 5.22 and 5.30 to 5.32", mistakes=[
    ("s = s + gate", "s = s + 0.0", "where is the gate's bias?"),
    ("s = s + gate", "s = s - gate", "with a large gate the step changes z only a little"),
    ("-np.logaddexp(0, -s)", "np.log(sigma)", "sigma is 0 in floating point, and log sigma is not minus infinity"),
    ("-np.logaddexp(0, -s)", "np.logaddexp(0, -s)", "sigma is below 1: does the step make volumes larger?"),
    ("sigma * z + (1 - sigma) * m", "(1 - sigma) * z + sigma * m", "sigma is what is kept of z"),
    ("(1 - sigma) * m", "m", "that is eq. 5.27: the gated step takes a mean of z and m"),
    ("-np.logaddexp(0, -s)", "s", "log sigma, and sigma is a sigmoid"),
    (".sum(axis=1)", ".sum()", "each draw has a determinant of its own"),
    ("-np.logaddexp(0, -s)", "-np.logaddexp(0, s)", "that is log (1 - sigma)"),
])  # fmt: skip
def _(rng):
    for dims, scale in ((3, 1.0), (4, 1000.0)):
        z, f, gate = rng.normal(size=(4, dims)), network(rng, dims, scale), float(rng.uniform(1.0, 2.0))
        image = np.array([step(row, f, gate) for row in z])
        if scale == 1.0:
            dets = [log_det(lambda r, f=f, gate=gate: step(r, f, gate), row) for row in z]
        else:
            dets = log_expit(f.function(z)[1] + gate).sum(axis=1)
        yield Case((z, f, gate), [image, np.array(dets)])


# %% [markdown]
# ## The way back
#
# From the new z to the old one: what takes one pass ahead takes D passes back. `network` and gate as before.


# %%
def undo(image, network, gate):
    """The old z, (B, D), from the new one."""
    # [solution]
    z = np.zeros(image.shape)
    for i in range(image.shape[1]):
        m, s = network(z)
        sigma = 1 / (1 + np.exp(-(s + gate)))
        z[:, i] = ((image - (1 - sigma) * m) / sigma)[:, i]
    return z
    # [end]


# %% [teacher]
@task("undo", 3, "code", "thesis eq. 5.18 and 5.32; lesson ch05_iaf, section 4", mistakes=[
    ("m, s = network(z)", "m, s = network(image)", "m and s were made of the old z, and not of the new one"),
    ("range(image.shape[1])", "range(image.shape[1])[::-1]", "which coordinate does not need any other?"),
    ("range(image.shape[1])", "range(image.shape[1] - 1)", "the last coordinate is wanted too"),
    ("(1 - sigma) * m", "m", "m had the weight 1 - sigma"),
    ("/ sigma)", "* sigma)", "a scale is undone by dividing"),
    ("-(s + gate)", "-s", "the gate's bias is a part of the step"),
    ("(image - (1 - sigma) * m) / sigma", "image / sigma - (1 - sigma) * m", "moved last, so moved back first"),
])  # fmt: skip
def _(rng):
    for dims in (3, 5):
        z, f, gate = rng.normal(size=(4, dims)), network(rng, dims, 0.5), float(rng.uniform(1.0, 2.0))
        yield Case((np.array([step(row, f, gate) for row in z]), f, gate), z)


# %% [markdown]
# ## A posterior with a flow
#
# Algorithm 5, with gates as above, and the order of the coordinates reversed after each step, the last one too. Each of
# `networks` takes z and the context h. Give draws, and their log density.


# %%
def posterior(mu, log_sigma, h, eps, networks, gate):
    """z, (B, D), and log q(z | x), (B,); mu, log_sigma, h and the noise eps (B, D)."""
    # [solution]
    z = mu + np.exp(log_sigma) * eps
    log_q = -np.sum(log_sigma + 0.5 * eps**2 + 0.5 * np.log(2 * np.pi), axis=1)
    for network in networks:
        m, s = network(z, h)
        sigma = 1 / (1 + np.exp(-(s + gate)))
        z = (sigma * z + (1 - sigma) * m)[:, ::-1]
        log_q = log_q - np.sum(np.log(sigma), axis=1)
    return z, log_q
    # [end]


# %% [teacher]
@task("posterior", 4, "code", "thesis Algorithm 5 and eq. 5.29", mistakes=[
    ("log_q - np.sum", "log_q + np.sum", "a step with sigma below 1 brings points together: their density rises"),
    ("[:, ::-1]", "", "the order of the coordinates is reversed after each step"),
    ("[:, ::-1]", "[::-1]", "coordinates are reversed, not draws"),
    ("return z, log_q", "return z, log_q + 0.5 * np.sum(eps**2 - z**2, axis=1)",
     "eps of eq. 5.29 is the noise at the start"),
    ("log_sigma + 0.5", "0.5", "the first Gaussian has a scale too"),
    ("-np.sum(log_sigma", "-np.sum(-log_sigma", "a wide Gaussian has a low density: check the sign of log sigma"),
    (" + 0.5 * np.log(2 * np.pi)", "", "a normal density has a constant"),
    ("network(z, h)", "network(z, 0 * h)", "each network sees the context"),
    ("np.exp(log_sigma) * eps", "log_sigma * eps", "the logarithm of sigma is given"),
    ("network(z, h)", "network(eps, h)", "a step sees what the step before has made"),
])  # fmt: skip
def _(rng):
    for count in (1, 3):
        dims, gate = 3, float(rng.uniform(1.0, 2.0))
        mu, log_sigma, h, eps = rng.normal(size=(4, 4, dims)) * np.array([1.0, 0.4, 1.0, 1.0])[:, None, None]
        networks = [network(rng, dims, 0.5, context=True) for _ in range(count)]

        def draw(eps, mu, sigma, h, networks=networks, gate=gate):
            z = mu + sigma * eps
            for f in networks:
                z = step(z, f, gate, h)[::-1]
            return z

        z, log_q = [], []
        for row in zip(eps, mu, np.exp(log_sigma), h, strict=True):
            z.append(draw(*row))
            log_q.append(norm.logpdf(row[0]).sum() - log_det(lambda e, row=row, f=draw: f(e, *row[1:]), row[0]))
        yield Case((mu, log_sigma, h, eps, networks, gate), [np.array(z), np.array(log_q)])


# %% [markdown]
# ## A fresh chain
#
# Before training the networks give m = s = 0, whatever they see, and z_0 is N(0, I). Before you try it: what is the
# standard deviation of each coordinate of z_T, and the log-determinant of the whole chain?


# %%
def fresh(dims, steps, gate):
    """Two numbers, for D, T and the gate's bias."""
    # [solution]
    sigma = 1 / (1 + np.exp(-gate))
    return sigma**steps, dims * steps * np.log(sigma)
    # [end]


# %% [teacher]
@task("fresh", 2, "predict", "thesis section 5.4 and eq. 5.32", mistakes=[
    ("sigma**steps,", "1.0,", "m is 0, but z is not left as it is: what does the gate keep of it?"),
    ("sigma**steps,", "sigma * steps,", "each step scales what the one before has left"),
    ("sigma**steps,", "sigma ** (2 * steps),", "the deviation, not the variance"),
    ("sigma**steps,", "(1 - sigma) ** steps,", "sigma is what is kept of z"),
    ("dims * steps *", "steps *", "the determinant is a product over all coordinates"),
    ("dims * steps *", "dims *", "the steps' log-determinants add up"),
    ("dims * steps * np.log(sigma)", "-dims * steps * np.log(sigma)", "does the chain make volumes smaller or larger?"),
    ("np.exp(-gate)", "np.exp(gate)", "with a large gate z changes only a little"),
])  # fmt: skip
def _(rng):
    for _ in range(2):
        dims, steps, gate = int(rng.integers(5, 9)), int(rng.integers(2, 5)), float(rng.uniform(0.5, 2.5))
        z, f = np.ones(dims), Source(f"lambda z: (np.zeros({dims}), np.zeros({dims}))")

        def chain(z, f=f, steps=steps, gate=gate):
            for _ in range(steps):
                z = step(z, f, gate)
            return z

        yield Case((dims, steps, gate), [float(chain(z)[0]), float(log_det(chain, z))])


# %% [markdown]
# ## What the reversal is for
#
# Before you try it: how many of the D x D derivatives of z_T by z_0 are not always 0, after T steps of IAF, with the
# order reversed after each of them or never?


# %%
def reach(dims, steps, reverse):
    """A number, for D, T and whether the order is reversed."""
    # [solution]
    if steps == 0:
        return dims
    if steps == 1 or not reverse:
        return dims * (dims + 1) // 2
    return dims**2
    # [end]


# %% [teacher]
@task("reach", 2, "predict", "thesis sections 5.3 and 5.4", mistakes=[
    ("(dims + 1) // 2", "(dims - 1) // 2", "each coordinate depends on itself as well"),
    ("(dims + 1) // 2", "dims", "one step: which coordinates does the first one depend on?"),
    ("steps == 1 or not reverse", "not reverse", "one step: a reversal after it only changes the rows' order"),
    ("steps == 1 or not reverse", "steps == 1", "without reversal: what is a product of lower triangular matrices?"),
    ("return dims**2", "return dims * (dims + 1) // 2", "with reversal the second step is triangular the other way"),
    ("return dims\n", "return 0\n", "no step at all: z_T is z_0"),
    ("return dims**2", "return dims**2 - dims", "with reversal: is anything always 0 after two steps?"),
])  # fmt: skip
def _(rng):
    dims = int(rng.integers(4, 9))
    for reverse in (True, False):
        total, lower = np.eye(dims, dtype=bool), np.tri(dims, dtype=bool)
        for steps in range(5):
            yield Case((dims, steps, reverse), int(total.sum()))
            total = (lower @ total)[::-1] if reverse else lower @ total


# %% [markdown]
# ## The bound with an auxiliary variable
#
# For one x, tables: u and z have a few values each, and all are summed. The code below can give bounds above log p(x).
# Mend it.


# %%
def auxiliary_bound(q_u, q_z, p_xz, p_u):
    """The bound, in nats; q(u | x) (U,), q(z | u, x) (U, Z), p(x, z) (Z,), and p(u | x, z), (Z, U)."""
    q = q_u[:, None] * q_z
    # [solution]
    return np.sum(q * (np.log(p_xz) + np.log(p_u.T) - np.log(q)))
    # [blank]
    # return np.sum(q * (np.log(p_xz) - np.log(q)))
    # [end]


# %% [teacher]
@task("auxiliary_bound", 2, "fault", "thesis eq. 5.1, 5.3 and 5.4", mistakes=[
    (" + np.log(p_u.T)", "", "q is a distribution of u and z: the model must have a u, too"),
    ("np.log(p_u.T)", "np.log(p_u)", "which axis of each table is u?"),
    ("- np.log(q))", "- np.log(q_z))", "u is drawn as well: its density under q belongs to the bound"),
    ("np.sum(q * (", "np.sum(q_z * (", "the expectation is over u, too"),
    ("np.log(p_xz) + np.log(p_u.T) - np.log(q)", "np.log(p_xz) - np.log(q.sum(axis=0))",
     "q(z | x) is known here, but not where u is an integral: the bound with u pays for that"),
    ("+ np.log(p_u.T)", "- np.log(p_u.T)", "p(u | x, z) is a factor of the model"),
    ("np.log(p_xz) + ", "", "and where is the data's part, p(x, z)?"),
])  # fmt: skip
def _(rng):
    for size in (3, 4):
        q_u, q_z = rng.dirichlet(2 * np.ones(size)), rng.dirichlet(2 * np.ones(size), size)
        p_xz, p_u = 0.1 * rng.dirichlet(2 * np.ones(size)), rng.dirichlet(2 * np.ones(size), size)
        total = 0.0
        for u, z in np.ndindex(size, size):
            total += q_u[u] * q_z[u, z] * np.log(p_xz[z] * p_u[z, u] / (q_u[u] * q_z[u, z]))
        yield Case((q_u, q_z, p_xz, p_u), total)


# %% [markdown]
# ## The price of u
#
# With the same tables: by how many nats is that bound below the bound with the same q(z | x) and without u? Derive it.


# %%
def price(q_u, q_z, p_u):
    """A number, not negative; q(u | x) (U,), q(z | u, x) (U, Z), p(u | x, z), (Z, U)."""
    q = q_u[:, None] * q_z
    # [solution]
    posterior = q / q.sum(axis=0)
    return np.sum(q * (np.log(posterior) - np.log(p_u.T)))
    # [end]


# %% [teacher]
@task("price", 3, "derive", "thesis eq. 5.6 and 5.7", mistakes=[
    ("np.log(posterior)", "np.log(q_u)[:, None]", "p(u | x, z) is compared with what q says of u if z is known"),
    ("np.log(posterior)", "np.log(q)", "q(u | x, z) is normalised over u, for each z"),
    ("np.sum(q *", "np.sum(posterior *", "the mean over z is taken under q(z | x)"),
    ("np.sum(q * (np.log(posterior) - np.log(p_u.T)))",
     "np.sum(q.sum(axis=0) * p_u.T * (np.log(p_u.T) - np.log(posterior)))",
     "a divergence has two directions: which of the two draws u?"),
    ("np.log(posterior) - np.log(p_u.T)", "np.log(p_u.T) - np.log(posterior)", "a price is not negative"),
    ("np.log(p_u.T)", "np.log(p_u)", "which axis of each table is u?"),
    ("q.sum(axis=0)", "q.sum(axis=1, keepdims=True)", "that is q(z | u, x): normalise over u"),
    (" - np.log(p_u.T)", "", "p(u | x, z) can be right, and then there is no price"),
])  # fmt: skip
def _(rng):
    for size in (3, 4):
        q_u, q_z = rng.dirichlet(2 * np.ones(size)), rng.dirichlet(2 * np.ones(size), size)
        p_xz, p_u = rng.dirichlet(2 * np.ones(size)), rng.dirichlet(2 * np.ones(size), size)
        q = np.einsum("u,uz->uz", q_u, q_z)
        without = sum(q[:, z].sum() * np.log(p_xz[z] / q[:, z].sum()) for z in range(size))
        with_u = sum(q[u, z] * np.log(p_xz[z] * p_u[z, u] / q[u, z]) for u, z in np.ndindex(size, size))
        yield Case((q_u, q_z, p_u), without - with_u)


# %% [markdown]
# ## What q leaves out
#
# p is a mixture of parts that do not overlap, with `weights`. q is as good as it can be on some of these parts, and
# nothing elsewhere: there it is p, normalised. Before you compute any: what are KL(q || p) and KL(p || q)?


# %%
def left_out(weights, covered):
    """Two numbers, in nats, `np.inf` if need be; the weights, an array, and the covered parts' indices, a list."""
    # [solution]
    share = weights[covered].sum()
    return -np.log(share), 0.0 if len(covered) == len(weights) else np.inf
    # [end]


# %% [teacher]
@task("left_out", 2, "predict", "thesis section 5.2 and eq. 5.8; lesson ch05_flows, section 2", mistakes=[
    ("-np.log(share),", "np.log(share),", "KL(q || p): a divergence is not negative"),
    ("-np.log(share),", "np.log(len(weights) / len(covered)),", "KL(q || p): the parts have weights"),
    ("-np.log(share),", "-share * np.log(share),", "KL(q || p) is a mean under q, which is normalised"),
    ("-np.log(share),", "0.0,", "KL(q || p): q is p, but for a factor"),
    ("else np.inf", "else -np.log(share)", "KL(p || q): the two directions differ: what is log q where q is 0?"),
    ("else np.inf", "else np.log(share)", "KL(p || q): where q is 0 and p is not, log p - log q has no limit"),
    ("0.0 if len(covered) == len(weights) else np.inf", "np.inf", "KL(p || q): and if nothing is left out?"),
    ("-np.log(share),", "1 - share,", "KL(q || p): a quotient of densities, and its logarithm"),
])  # fmt: skip
def _(rng):
    for count, kept in ((2, 1), (4, 2), (3, 3)):
        weights, covered = rng.dirichlet(3 * np.ones(count)), rng.permutation(count)[:kept].tolist()
        p = weights[:, None] * rng.dirichlet(np.ones(5), count)  # a histogram of five cells for each part
        q = np.where(np.isin(np.arange(count), covered)[:, None], p, 0.0)
        q = q / q.sum()
        inside = q > 0
        ahead = np.sum(q[inside] * np.log(q[inside] / p[inside]))
        yield Case((weights, covered), [ahead, 0.0 if inside.all() else np.inf], atol=1e-12)
