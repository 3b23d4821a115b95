"""Convolutions as blocked products, and the ResNet VAE (thesis section 5.6.2 and appendix 5.B).

A convolution is a matrix product, of patches of the image. This chapter computes it and its gradients by hand, masks it
to be autoregressive, and makes of it a VAE with several layers of latent feature maps. Bits per dimension are those of
8 x 8 digits with 17 levels; +- is a standard error; 20 seconds.
"""

# %% [markdown]
# ## 1. A convolution
#
# Images are (B, H, W, C), channels last; a kernel is (KH, KW, C, O). With stride s and p rows of zeros around,
# $$y_{b i j o} = \sum_{k_y, k_x, c} x_{b, \, i s + k_y - p, \, j s + k_x - p, \, c} \; w_{k_y k_x c o}$$
# Each *tap* (k_y, k_x) is a product over the channels, of a shifted image. (Mathematics calls this a correlation.)

# %%
from timeit import repeat

import numpy as np

import minivi as mv
from minivi import data, nn, ops, optim, plots, training
from minivi.distributions import DiscretizedLogistic
from minivi.lesson import show, stored
from minivi.models import ResNetVAE

# %%
framed = lambda x, p: np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))  # with zeros


def shifted(x, w, stride=1):
    """Each tap with the part of the framed images that it meets, (B, OH, OW, C): a view of them."""
    rows, columns = ((n - k) // stride * stride + 1 for n, k in zip(x.shape[1:3], w.shape[:2], strict=True))
    for ky, kx in np.ndindex(w.shape[:2]):
        yield (ky, kx), x[:, ky : ky + rows : stride, kx : kx + columns : stride]


by_taps = lambda x, w, padding: sum(part @ w[tap] for tap, part in shifted(framed(x, padding), w))
digits, rng = data.load("digits"), mv.Generator(0)
three = digits.train[digits.train_labels == 3][:1].reshape(1, 8, 8, 1)
falls = np.outer([1, 2, 1], [-1, 0, 1]) / 4.0  # from left to right; its transpose from top to bottom
kernel = np.stack([falls, falls.T], axis=-1)[:, :, None].astype("float32")
edges = by_taps(three, kernel, 1)
panels = (fig := plots.figure(7.5, 2.6)).subplots(1, 3)
shown = zip(panels, (three[0, ..., 0], *np.moveaxis(edges[0], -1, 0)), ("x", "to the right", "below"), strict=True)
for axes, image, title in shown:
    fig.colorbar(plots.panel(axes, title, "column", "row").imshow(image, cmap="gray_r"), ax=axes)
show(fig, "edges")
off = np.abs(edges - ops.conv2d(three, kernel, np.zeros(2, "float32"), padding=1)).max()
print(f"two maps, {kernel.size} weights: by taps against ops.conv2d, largest difference {off:.0e}")

# %% [markdown]
# A full matrix from 64 pixels to two maps would have 8,192 weights. The kernel looks the same everywhere.
#
# ## 2. As one matrix product
#
# Write each patch, KH KW C numbers, as a row (*im2col*): y = patches x (kernel as a matrix, KH KW C by O), one large
# product. But the patches take KH KW times the memory of the images, and no row of y needs another's patch: some at a
# time will do. `minivi/kernels/conv.py` gathers 256 kB of them, multiplies them while a cache holds them, and goes on.


# %%
def patches(x, w, stride=1, padding=1):
    """(B, H, W, C) -> (B OH OW, KH KW C)."""
    return np.stack([part for _, part in shifted(framed(x, padding), w, stride)], axis=3).reshape(-1, w[..., 0].size)


x, w = (rng.standard_normal(shape, dtype="float32") for shape in ((32, 16, 16, 64), (3, 3, 64, 64)))
zero, work = np.zeros(64, "float32"), 32 * 16 * 16 * w.size
library = lambda: ops.conv2d(x, w, zero, padding=1)
blocks = lambda n: np.concatenate([patches(x[i : i + n], w) @ w.reshape(-1, 64) for i in range(0, 32, n)])
ways = {"taps": lambda: by_taps(x, w, 1), "all patches": lambda: blocks(32), "those of 4 images": lambda: blocks(4)}
held = x.nbytes, patches(x, w).nbytes, patches(x[:4], w).nbytes, 2**18
expected = library()
for (name, way), size in zip((ways | {"the library": library}).items(), held, strict=True):
    off, best = np.abs(way().reshape(x.shape) - expected).max(), min(repeat(way, number=1))
    print(f"{name:20s} {size / 2**20:5.2f} MB gathered, {1e3 * best:6.1f} ms, the best of five,", end=" ")
    print(f"{work / best / 1e9:5.1f} billion multiply-adds a second; {off:.0e} off")

# %% [markdown]
# ## 3. Its gradients are products too
#
# y is linear in w and in x. With G the cotangent of y, a row for each position, as y has:
# $$\bar W = \mathrm{patches}^T \, G \qquad\qquad \bar x_{b, \, i s + k_y - p, \, j s + k_x - p, \, c}
#   \; \mathrel{+}= \; \sum_o G_{b i j o} \, w_{k_y k_x c o} \quad \mbox{for each tap}$$
# The second is the *transposed convolution*: it spreads what the convolution gathers, and so makes images larger, as a
# decoder must. First the matrix of a convolution of 8 numbers, stride 2, with the taps 1 2 3 4 5:

# %%
line = mv.Tensor(np.zeros((1, 8, 1, 1)))
five, one = np.arange(1.0, 6.0).reshape(5, 1, 1, 1), np.zeros(1)
y = ops.conv2d(line, five, one, stride=(2, 1), padding=(2, 0))
matrix = np.stack([mv.grad(y[0, i, 0, 0], line)[0, :, 0, 0] for i in range(4)])
print("\n".join(" ".join(f"{v:.0f}" if v else "." for v in row) for row in matrix))
u, v, g = (rng.standard_normal(shape, dtype="float64") for shape in ((2, 8, 8, 3), (5, 5, 3, 4), (2, 4, 4, 4)))
f = lambda u, v: ops.conv2d(u, v, np.zeros(4), stride=2, padding=2)
engine_u, engine_v = mv.grad((f(*(given := [mv.Tensor(u), mv.Tensor(v)])) * g).sum(), given)
of_kernel = (patches(u, v, 2, 2).T @ g.reshape(-1, 4)).reshape(v.shape)
spread, by_phase = np.zeros((2, 12, 12, 3)), np.zeros_like(u)
for tap, part in shifted(spread, v, 2):
    part += g @ v[tap].T  # a view: this adds into ``spread``
for a, b in np.ndindex(2, 2):  # every other tap each way, flipped; channels exchanged
    taps = np.ascontiguousarray(v[a::2, b::2][::-1, ::-1].transpose(0, 1, 3, 2))
    by_phase[:, a::2, b::2] = ops.conv2d(g, taps, np.zeros(3), padding=((1 - a, 1), (1 - b, 1)))
by_hand = {"kernel": (of_kernel, engine_v), "images, taps": (spread[:, 2:-2, 2:-2], engine_u)}
for name, (hand, engine) in (by_hand | {"images, phases": (by_phase, engine_u)}).items():
    print(f"cotangent of {name:15s} by hand against the engine, largest difference {np.abs(hand - engine).max():.0e}")
for row in mv.gradcheck(f, u, v, names=["images", "kernel"]).worst():
    print(f"{row.name}: the engine {row.analytic:.8f}, by differences {row.numeric:.8f}, {row.verdict}")

# %% [markdown]
# The matrix's columns hold taps 1 3 5 or 2 4: two *phases*. A position of x at an even place meets every other tap, one
# at an odd place the rest. Each phase is a convolution of G, of stride 1, and no product with a zero is made.
#
# ## 4. Masked convolutions, and a flow on feature maps (5.B.3)
#
# With zeros in the kernel an output sees only what comes before it: the pixels above, those to the left, and of its own
# pixel the earlier maps. So a step of IAF (eq. 5.30 to 5.32) has a triangular Jacobian; its log-determinant is a sum:

# %%
masked = {"groups": 2, "init": nn.normal(0.5), "dtype": "float64"}
first = nn.MaskedConv2d(2, 8, 3, mv.Generator(1), **masked)
last = nn.MaskedConv2d(8, 4, 3, mv.Generator(2), strict=True, **masked)


def step(z):
    """z' and log |det dz' / dz| of feature maps (B, H, W, 2)."""
    out = last(ops.elu(first(z)))
    m, sigma = out[..., 0::2], ops.sigmoid(out[..., 1::2] + 1.5)
    return sigma * z + (1.0 - sigma) * m, ops.sum(ops.log(sigma), axis=(1, 2, 3))  # eq. 5.30-5.32


z = mv.Tensor(mv.Generator(3).standard_normal((1, 7, 7, 2)))
moved, log_det = step(z)
flat = ops.reshape(moved, shape=-1)
jacobian = np.stack([mv.grad(flat[i], z).ravel() for i in range(98)])
left, right = (fig := plots.figure(6.5, 3.0)).subplots(1, 2)
seen = np.abs(mv.grad(moved[0, 4, 3].sum(), z)[0]).sum(axis=-1) > 0
plots.panel(left, "what moves the marked pixel", "column", "row").imshow(seen, cmap="gray_r", vmax=2)
left.plot(3, 4, "x", color="black")
plots.panel(right, "dz' / dz, not zero", "number of z", "number of z'").imshow(np.abs(jacobian) > 0, cmap="gray_r")
show(fig, "masked")
print(f"largest |dz'_i / dz_j| above the diagonal: {np.abs(np.triu(jacobian, 1)).max():.1e}, below", end=" ")
print(f"{np.abs(np.tril(jacobian, -1)).max():.2f}; log |det| by LU {np.linalg.slogdet(jacobian)[1]:.8f}", end=", ")
print(f"by the sum {log_det.item():.8f}")

# %% [markdown]
# The library's step is `minivi.models.resnet_vae.MaskedFlow`; with no hidden layer it is linear in z.
#
# ## 5. Weight normalisation, and a start by data (5.B.6)
#
# The direction v of an output's weights and their length are apart: w = gain v / |v|. One minibatch is pushed through,
# and each layer sets gain and bias so that its outputs have mean 0 and a given deviation. Twenty layers with ELU:

# %%
x, START = digits.train[:100].reshape(-1, 8, 8, 1), nn.normal(0.05)


def deviations(init, weight_norm):
    """Of each layer's outputs on a minibatch."""
    rng, out = mv.Generator(5), [x]
    for inputs in (1, *[16] * 19):
        layer = nn.Conv2d(inputs, 16, 3, rng, init=init, weight_norm=weight_norm)
        with nn.initialise_by_data():  # does nothing to a layer without weight normalisation
            layer(ops.elu(out[-1]))
        out.append(layer(ops.elu(out[-1])))  # ELU is x, or e^x - 1 below 0
    return [np.std(np.asarray(h)) for h in out[1:]]


axes = plots.panel((fig := plots.figure(6.0, 3.2)).add_subplot(), "", "layer", "deviation of its outputs", log="y")
for i, (name, init, normed) in enumerate((("0.05", START, False), ("He", nn.he, False), ("by data", START, True))):
    path = deviations(init, normed)
    axes.plot(np.arange(1, 21), path, label=name, **plots.style(i, 20))
    print(f"{name:7s} layers 1, 10, 20: {path[0]:.2g}, {path[9]:.2g}, {path[19]:.2g}")
axes.legend(fontsize=8)
show(fig, "depth")

# %% [markdown]
# Weights of 0.05 lose the signal, He's keep it within a factor of two, data make it exact, whatever the layer.
#
# ## 6. Levels of pixels (5.B.5)
#
# A pixel has one of L levels, 0 to L - 1. The mass is that of a logistic distribution on the level's cell; for L = 256
# the text prints p(x) = CDF(x + 1/256) - CDF(x). What lies below 0 and above 1 is left out: the printed masses do not
# sum to one. The library gives the tails to the first and last levels. Here L = 17:

# %%
sigmoid, k = lambda a: 1.0 / (1.0 + np.exp(-a)), np.arange(18)
for mu, s in ((0.5, 0.05), (0.5, 0.2), (0.0, 0.1)):
    cdf = sigmoid((k / 17 - mu) / s)
    p = DiscretizedLogistic(np.full(1, mu), np.full(1, np.log(s)), 17)
    log_p, drawn = np.asarray(p.log_prob(k[:17, None] / 16)), p.sample(mv.Generator(6), (20_000,))
    off, code = np.abs(np.exp(log_p) - np.diff(cdf))[1:-1].max(), -np.asarray(p.log_prob(drawn)) / np.log(2)
    print(f"mu {mu}, s {s:4g}: printed masses sum to {np.diff(cdf).sum():.4f}, all {np.exp(log_p).sum():.4f}", end="; ")
    print(f"inner ones {off:.0e} off; draws need {code.mean():.3f} +- {code.std() / 20_000**0.5:.3f} bits", end="; ")
    print(f"entropy {-np.sum(np.exp(log_p) * log_p) / np.log(2):.3f}")

# %% [markdown]
# ## 7. The ResNet VAE (Figure 5.1, 5.B.1 to 5.B.4)
#
# Residual units, h + f(h), go up without noise. As many come down, and in each of them feature maps z_l are drawn:
# $$p(z_{1:L}) = p(z_L) \prod_{l<L} p(z_l | z_{l+1:L}) \qquad q(z_l | x, z_{l+1:L}) = N(\mu, \sigma^2)$$
# q's mu and log sigma are sums of what the unit above x says, and of what the unit that knows the z above says. "Free
# bits" (eq. 5.33): each map j of a layer costs at least lambda nats, so nothing is gained by silencing it:
# $$\tilde L_\lambda = E[\log p(x | z)] - \sum_j \max(\lambda, E_M[\log q(z_j) - \log p(z_j)])$$


# %%
def train(model, least, epochs=30):
    """Maximise eq. 5.33: bits per dimension of each test image, and nats in each map of the latents."""
    with nn.initialise_by_data():
        model.reconstruction_and_kl(digits.train[:100], mv.Generator(7))

    def loss(x, rng):
        log_p, kl = model.reconstruction_and_kl(x, rng)
        return ops.sum(ops.maximum(ops.mean(kl, axis=0), np.float32(least))) - ops.mean(log_p)  # eq. 5.33

    adamax, seeded = optim.AdaMax(model.parameters(), 5e-3), {"rng": mv.Generator(8), "progress": False}
    history = training.fit(model, loss, adamax, digits.train, epochs=epochs, batch_size=50, **seeded)
    with mv.no_grad():
        log_p, kl = map(np.asarray, model.reconstruction_and_kl(digits.test, mv.Generator(9)))
    return (kl.sum(axis=1) - log_p) / (64 * np.log(2)), kl.mean(axis=0), history


counts = np.stack([np.bincount(column, minlength=17) for column in np.rint(digits.train * 16).astype(int).T]) + 0.1
frequency = counts / counts.sum(axis=1, keepdims=True)
pixels = -np.log2(frequency[np.arange(64), np.rint(digits.test * 16).astype(int)]).mean(axis=1)
print(f"independent pixels {pixels.mean():.3f} +- {pixels.std() / len(pixels) ** 0.5:.3f} bits per dimension")
for name, hidden, least in (("Gaussian", None, 0.0), ("Gaussian", None, 0.5), ("IAF", 1, 0.5)):
    model = ResNetVAE((8, 8, 1), 2, 16, 2, flow_hidden=hidden, levels=17, rng=mv.Generator(10))
    bits, nats, history = train(model, least)
    gain = pixels - bits
    print(f"{name}, lambda {least}: {bits.mean():.3f}, below pixels by {gain.mean():.3f}", end=" ")
    print(f"+- {gain.std() / len(bits) ** 0.5:.3f}; nats in each map {nats.round(1)}", end="; ")
    print(f"{history.compiled} steps compiled")
left, right = (fig := plots.figure(7.0, 2.0)).subplots(1, 2)
plots.show(left, plots.tile(digits.test[:21], (8, 8), 7), "test images")
plots.show(right, plots.tile(model.sample(21, mv.Generator(11))[1], (8, 8), 7), "drawn from the last model")
show(fig, "drawn")

# %% [markdown]
# With lambda 0 one of the four maps carries nothing. Free bits make all carry some, and bits fall; a flow gains again.

# %%
stored("ch05_resnet.posteriors")

# %% [markdown]
# ## 8. Try
#
# - In section 2: `blocks(2)` and `blocks(8)` too. Where is the time least, and how much is gathered there?
# - In section 7: 2.0 for `least`, then 8.0. How many nats does each map carry, and what do the bits do?
