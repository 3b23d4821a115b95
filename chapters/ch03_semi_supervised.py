"""Semi-supervised learning: few labels, many images (thesis chapter 3).

Of 1,500 images of digits 50 have a label. A classifier trained on the 50 is wrong for every sixth digit. What can the
other 1,450 teach it? The answer is a generative model whose class is a latent variable that is sometimes seen, here
written out (M2), tried on features (M1, M1+M2), and made to draw one style in ten classes. Nats; 20 seconds.
"""

# %% [markdown]
# ## 1. What the labels alone can do
#
# Grey values are probabilities of black; each time an image trains something, its pixels are drawn afresh. Errors are
# of grey test images. The baseline is a network q(y | x) that sees the 50 labelled images alone.

# %%
import numpy as np
from sklearn import neighbors, svm

import minivi as mv
from minivi import data, models, nn, ops, optim, plots, program, training
from minivi.lesson import show, stored
from minivi.semi_supervised import Features, SemiSupervisedClassifier, minibatch_loss, sample_features

# %%
digits, one_hot = data.load("digits"), np.eye(10, dtype="float32")
images, labels, test_labels = digits.train, digits.train_labels.astype(int), digits.test_labels.astype(int)
chosen = data.balanced(labels, 50, mv.Generator(0))  # as many of each class
rest = np.setdiff1d(np.arange(1500), chosen)
fresh = lambda rows, rng: (data.fresh(images[rows], rng), one_hot[labels[rows]])  # binary pixels, classes one-hot
minibatch = lambda rng, size=100: fresh(chosen[rng.integers(0, len(chosen), size=size)], rng)  # labelled, repeated


def told(name, predicted):
    """The error on the 297 test images; its change from `alone`, image by image, with one standard error."""
    error, change = (wrong := 100.0 * (predicted != test_labels)).mean(), wrong - alone
    return f"{name:26s} error {error:4.1f} %, change {change.mean():+5.1f} +- {change.std() / 297**0.5:.1f}"


rows = chosen[np.argsort(labels[chosen])].reshape(10, -1).T.ravel()  # a column for each class
axes, sheet = (fig := plots.figure(5.0, 2.8)).add_subplot(), plots.tile(images[rows], digits.shape, 10)
plots.show(axes, sheet, "All that is labelled: five images of each class")
show(fig, "labelled")
network, rng = nn.MLP((64, 100, 10), mv.Generator(1), activation="softplus"), mv.Generator(2)
optimizer = optim.Adam(network.parameters(), step_size=3e-3, weight_decay=1e-4)
for x, y in (minibatch(rng) for _ in range(600)):
    optimizer.step(mv.grad(-ops.sum(ops.log_softmax(network(x)) * y, axis=1).mean(), optimizer.parameters))
alone = 100.0 * (np.argmax(network(digits.test).data, axis=1) != test_labels)
print(f"labels alone: error {alone.mean():.1f} +- {alone.std() / 297**0.5:.1f} %")

# %% [markdown]
# ## 2. M2: the class as a latent variable (eq. 3.2, 3.4, 3.5, 3.7, 3.8)
#
# $$p(y) = 1/10 \qquad p(z) = N(0, I) \qquad p(x | y, z) = \prod_d Bernoulli(x_d; DecoderNet(y, z)_d)$$
#
# Where y is known, the bound L is that of a VAE with one more input. Where not, q(y | x) guesses, and y is summed out:
#
# $$L(x, y) = E_{q(z | x, y)}[\log p(x | y, z) + \log p(y) + \log p(z) - \log q(z | x, y)] \; \le \; \log p(x, y)$$
# $$U(x) = \sum_y q(y | x) L(x, y) + H(q(y | x)) \; \le \; \log p(x)$$
#
# U is largest when q(y | x) is in proportion to exp L(x, y): a class in which the model can explain the image becomes
# probable. That is how images without labels train the classifier. Three things are printed otherwise: section 3.3.1
# first has q(z | x) for q(z | x, y); eq. 3.8 begins with an expectation over y alone, which leaves z open; Algorithm 4
# draws y where 3.8 sums. The cell ends with the library's bounds beside ours, and with y drawn for one image: right in
# the mean, but noisier, and a draw has no gradient for q(y | x).


# %%
class M2(nn.Module):
    """Classifier q(y | x), encoder q(z | x, y), decoder p(x | y, z): one hidden layer each."""

    def __init__(self, rng, hidden=100, latents=10):
        self.latents, self.classifier = latents, nn.MLP((64, hidden, 10), rng, activation="softplus")
        self.encoder = nn.MLP((64 + 10, hidden, 2 * latents), rng, activation="softplus")
        self.decoder = nn.MLP((latents + 10, hidden, 64), rng, activation="softplus")
        self.log_q = lambda x: ops.log_softmax(self.classifier(x))  # log q(y | x), (B, 10), eq. 3.5

    def labelled(self, x, y, rng):
        """One draw's estimate of L(x, y), (B,), eq. 3.7; y is one-hot."""
        heads = self.encoder(np.concatenate([x, y], axis=1))
        mu, log_sigma = heads[:, : self.latents], 0.5 * heads[:, self.latents :]  # eq. 3.4
        z = mu + ops.exp(log_sigma) * rng.standard_normal(mu.shape, dtype="float32")  # eq. 3.11
        log_px_yz = ops.bernoulli_log_prob(x, self.decoder(ops.concatenate([z, y], axis=1)))
        kl = 0.5 * ops.sum(mu * mu + ops.exp(2 * log_sigma) - 2 * log_sigma - 1, axis=1)
        return log_px_yz + float(np.log(0.1)) - kl

    def unlabelled(self, x, rng):
        """U(x), (B,), eq. 3.8: each image with each class, in one pass of 10 B rows."""
        each = self.labelled(np.tile(x, (10, 1)), np.repeat(one_hot, len(x), axis=0), rng)
        log_q = self.log_q(x)
        return ops.sum(ops.exp(log_q) * (ops.transpose(each.reshape(10, len(x))) - log_q), axis=1)


library, ours = models.SemiSupervisedVAE(64, 10, (100,), 10, rng=mv.Generator(3), init=nn.glorot), M2(mv.Generator(3))
ours.classifier, ours.decoder, ours.encoder.layers[1] = library.classifier, library.decoder, library.encoder.layers[0]
ours.encoder.layers[0].weight.assign(np.concatenate([library.encoder_x.weight.data, library.encoder_y.data]))
(x, y), same = minibatch(mv.Generator(4), size=3), lambda: mv.Generator(5)  # the same noise each time
print("L(x, y):", ours.labelled(x, y, same()).data, library.labelled_bound(x, y.argmax(axis=1), same()).data)
print("U(x):   ", ours.unlabelled(x, same()).data, library.unlabelled_bound(x, same()).data)
rng, x = mv.Generator(6), np.repeat(x[:1], 500, axis=0)
each = np.stack([ours.labelled(x, np.repeat(one_hot[[k]], 500, axis=0), rng).data for k in range(10)])
signal = each - ours.log_q(x).data.T  # L(x, y) - log q(y | x), (10, 500)
drawn = signal[np.argmax(ours.log_q(x).data.T + rng.gumbel(size=(10, 500)), axis=0), np.arange(500)]
for name, u in {"summed": (np.exp(ours.log_q(x).data.T) * signal).sum(axis=0), "drawn": drawn}.items():
    print(f"U(x), y {name:6s}: {u.mean():.2f} +- {u.std() / 500**0.5:.2f}, one estimate +- {u.std():.2f}")

# %% [markdown]
# ## 3. The objective, and why it has a third term (eq. 3.9, 3.10)
#
# $$J^\alpha = \sum_{labelled} L(x, y) + \sum_{others} U(x) + \alpha E_{labelled}[\log q(y | x)] \quad \alpha = 0.1 N$$
#
# q(y | x) does not occur in L: without the third term no label reaches it. Eq. 3.10 has a minus before log q, which
# trains it to be wrong. The expectation is a mean, and N the number of all images: log q of each label weighs 0.1 N /
# N_l = 0.1 1500 / 50 = 3 times as much as its L. Below all is divided by N: 0.1 is left. (Section 3.3.2 names AdaGrad,
# 3.4.4 RMSProp with momentum and bias correction, which is Adam, lesson `ch07_adam`; so it is here.)


# %%
def train(alpha, epochs=30):
    """Maximise J^alpha: the model, and its test error in % after each epoch; a `Step` is gradient and update in one."""
    model, rng, errors = M2(mv.Generator(1)), mv.Generator(2), []

    def loss(batch, rng):
        x, y, others = batch
        l, u = model.labelled(x, y, rng).mean(), model.unlabelled(others, rng).mean()
        j = (len(chosen) * l + len(rest) * u) / 1500  # eq. 3.9
        return -(j + alpha * ops.sum(model.log_q(x) * y, axis=1).mean())  # eq. 3.10

    update = program.Step(loss, optim.Adam(model.parameters(), step_size=1e-2, weight_decay=1 / 1500))  # prior N(0, 1)
    for _ in range(epochs):
        for grey in data.batches(images[rest], size=100, rng=rng):
            update((*minibatch(rng), data.fresh(grey, rng)), rng)
        errors.append(100 * np.mean(predict(model, digits.test) != test_labels))
    return model, errors


predict = lambda model, x: np.argmax(model.log_q(x).data, axis=1)
axes = plots.panel((fig := plots.figure(6.5, 3.4)).add_subplot(), "M2 with 50 labels", "epoch", "test error, %")
for i, alpha in enumerate((0.0, 0.01, 0.1, 1.0, -0.1)):
    model, errors = train(alpha)
    axes.plot(np.arange(1, 31), errors, label=f"alpha = {alpha:g} N", **plots.style(i, 30))
    own = 100 * np.mean(predict(model, images[chosen]) != labels[chosen])
    print(f"{told(f'M2, alpha = {alpha:g} N', predict(model, digits.test))}; on the labelled images {own:.0f} %")
axes.axhline(alone.mean(), color="0.4", linestyle=":", label="labels alone")
axes.legend(fontsize=8)
show(fig, "alpha")

# %% [markdown]
# Without the term every third digit is wrong, and 24 % of the images whose class was given. q(y | x) hears of labels by
# a detour only: L shows the decoder how a class looks, then U draws q(y | x) to the class that explains the image. With
# 0.1 N the labels say which class is which, and the other images take the error below that of labels alone: by 3.7 with
# an error of 2.0, for another choice of the 50 by 4.0. With the printed sign all is wrong, then all is one class.
#
# ## 4. M1: features learned without labels (eq. 3.1, 3.3, 3.6; Algorithm 3)
#
# M1 is the VAE of chapter 2, trained on all images (Algorithm 3 calls its bound J, eq. 3.6 L). Another classifier then
# sees the mean of q(z | x) in place of x. Errors: means over 20 choices of 50 labels, grey images and binary ones.

# %%
vae = models.VAE(64, (100, 100), 20, rng=mv.Generator(1), output_bias=nn.logit_of_mean(images))
optimizer = optim.Adam(vae.parameters(), 2e-3, weight_decay=1 / 1500)
loss, quiet = lambda x, rng: -vae.elbo(x, rng).mean(), {"rng": mv.Generator(2), "progress": False}
training.fit(vae, loss, optimizer, images, epochs=80, batch_size=50, prepare=data.fresh, **quiet)
features, choices = Features(vae, images), [data.balanced(labels, 50, mv.Generator(draw)) for draw in range(20)]
sets = {"grey": (images, digits.test), "binary": [data.fresh(x, mv.Generator(3)) for x in (images, digits.test)]}
for name, pixels in sets.items():
    for kind, (x, tests) in {"pixels": pixels, "M1's means": [features.posterior(x)[0] for x in pixels]}.items():
        for label, method in {"1-NN": neighbors.KNeighborsClassifier(1), "SVM": svm.SVC(C=10.0)}.items():
            wrong = [100 * np.mean(method.fit(x[c], labels[c]).predict(tests) != test_labels) for c in choices]
            print(f"{name:6s} {kind:10s} {label:4s} {np.mean(wrong):.1f} +- {np.std(wrong) / 20**0.5:.1f} %")
moves, sigma = vae.encode(images).mu.data.std(axis=0), np.exp(vae.encode(images).log_sigma.data).mean(axis=0)
axes, title = (fig := plots.figure(6.5, 2.8)).add_subplot(), f"M1: {len(features.kept)} of {len(moves)} latents kept"
plots.panel(axes, title, "latent, in order of use", "in units of z").set_xticks(range(1, len(moves) + 1))
for i, (label, y) in enumerate({"deviation of mu over images": moves, "mean sigma": sigma}.items()):
    axes.plot(np.arange(1, len(y) + 1), y[np.argsort(-moves)], label=label, **plots.style(i))
axes.legend(fontsize=8)
show(fig, "latents")

# %% [markdown]
# M1's features beat binary pixels, as the text claims, but not grey ones, where there is less noise to remove. Picture:
# latents that the VAE does not use have mu = 0 and sigma = 1 whatever the image. `Features` keeps those whose mu
# deviates by more than 0.1, 12 here, as the author's code does; the text does not say so.
#
# ## 5. M1+M2 (section 3.2.3)
#
# M2 with a Gaussian p(z_1 | y, z_2) on M1's z_1: samples of q(z_1 | x), anew for each minibatch, or its means?

# %%
posterior, test_mu = features.posterior(images), features.posterior(digits.test)[0]
parts = lambda rows: tuple(part[rows] for part in posterior)
for name, prepare in {"samples": sample_features, "means": lambda part, rng: part[0]}.items():
    both = models.SemiSupervisedVAE(len(features.kept), 10, (100,), 10, "gaussian", rng=mv.Generator(1), init=nn.glorot)
    optimizer = optim.Adam(both.parameters(), step_size=5e-3, weight_decay=1 / 1500)
    loss = minibatch_loss(both, parts(chosen), labels[chosen], counts=(len(chosen), len(rest)), prepare=prepare)
    training.fit(both, loss, optimizer, parts(rest), epochs=40, prepare=prepare, rng=mv.Generator(2), progress=False)
    print(told(f"M1+M2, {name}", both.predict_proba(test_mu).argmax(axis=1)))

# %% [markdown]
# By samples M1+M2 is about where labels alone are. Means look better, but M1 from another seed kept 15 latents: 15.2 %
# with samples, 17.8 % with means, 12.1 % with means that deviate by more than 0.2. The others hardly move. A density of
# such numbers has no upper limit, so M2 learns them and not the class; in samples noise of sigma 1 covers them. The
# text has M1+M2 far the best, on MNIST. Not on these digits: M1 has nothing to offer over 64 grey pixels.
#
# ## 6. One style, ten classes (Figure 3.1)
#
# With every label M2 is a conditional VAE, p(x | y). The decoder is told the class, so z is left with the rest, the
# style. Take z of a test image from q(z | x, y), then ask for each class with that z. The rows go along one latent:
# down the columns every class changes alike, from a heavy head to a heavy foot.

# %%
conditional, rng = models.SemiSupervisedVAE(64, 10, (100,), 4, rng=mv.Generator(1), init=nn.glorot), mv.Generator(2)
optimizer = optim.Adam(conditional.parameters(), step_size=5e-3, weight_decay=1 / 1500)
for x, y in (part for _ in range(80) for part in data.batches(images, labels, size=100, rng=rng)):
    j = conditional.objective(data.fresh(x, rng), y, None, rng, counts=(1500, 0))
    optimizer.step(mv.grad(-j, optimizer.parameters))
z, classes = conditional.encode(digits.test, test_labels).mu.data, np.tile(np.arange(10), 297)
drawn = conditional.mean_image(np.repeat(z, 10, axis=0), classes)
rows = np.argsort(z[:, z.std(axis=0).argmax()])[np.linspace(0, 296, 6).astype(int)]  # along the latent most used
sheet = np.concatenate([digits.test[rows, None], drawn.reshape(297, 10, 64)[rows]], axis=1).reshape(-1, 64)
axes, sheet = (fig := plots.figure(6.0, 3.6)).add_subplot(), plots.tile(sheet, digits.shape, 11)
plots.show(axes, sheet, "Left a test image, then its style in the classes 0 to 9")
show(fig, "analogies")
print(f"section 1's network reads {100 * np.mean(network(drawn).data.argmax(axis=1) == classes):.0f} % as asked for")

# %% [markdown]
# ## 7. Two ways to predict, and three lines (sections 3.2.2, 3.4.1.1)
#
# p(y | x), from p(x, y) by 20 importance samples for each class, is the model's own answer, q(y | x) a quick guess at
# it; with every label the better one, here and in the text, whose 0.96 % on MNIST is by p(y | x). The three lines train
# M2, or with `stack=True` M1+M2, as a classifier of scikit-learn's kind.

# %%
given = np.where(np.isin(np.arange(1500), chosen), labels, -1)  # -1: no label
options = {"epochs": 30, "least_steps": 1, "step_size": 1e-2, "random_state": 0}
classifier = SemiSupervisedClassifier(pixels=True, hidden=(100,), latents=10, **options).fit(images, given)
for name, m in {"50 labels": classifier.model_, "every label": conditional}.items():
    print(told(f"{name}, q(y | x)", m.predict_proba(digits.test).argmax(axis=1)))
    print(told(f"{name}, p(y | x)", m.log_joint(digits.test, mv.Generator(3), samples=20).argmax(axis=1)))

# %% [markdown]
# ## 8. The long run: Table 3.1 on MNIST

# %%
stored("ch03_semi_supervised.table_3_1")

# %% [markdown]
# ## 9. Try
#
# - In section 3: `0 * u` for `len(rest) * u`. Is it the other images that help, or the decoder?
# - In section 1: 20 labels for 50, then 200. Where do the others help most, and where do they do harm?
# - In section 4: 50 latents for 20, then also `least=0.3` in `Features`. Which error of M1+M2 moves most, and why?
# - In section 6: 1 latent for 4, then 20. What is a style now? What becomes of p(y | x) in section 7?
