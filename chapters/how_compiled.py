"""How a training step is compiled: traced, laid out in memory, run as a list (PyTorch's and JAX's compilers, in small).

A step on a small VAE costs Python more time than arithmetic. This lesson notes what one step does, checks that the note
is the whole of it, plans its memory, and runs the note: the same bits, sooner. Everything stands in `minivi/trace.py`,
`minivi/program.py` and `minivi/kernels/launches.py`; times are those of your machine; 10 seconds.
"""

# %% [markdown]
# ## 1. What an eager step costs
#
# Algorithm 1 of the thesis on 8x8 digits: draw noise, go forward (eq. 2.28), go back, let Adam change the parameters.

# %%
from collections import Counter
from time import perf_counter
from timeit import repeat

import numpy as np

import minivi as mv
from minivi import data, optim, plots
from minivi.lesson import show
from minivi.models import VAE
from minivi.profile import Watch
from minivi.program import Program, Step
from minivi.trace import Trace, arrays_in

# %%
digits = data.load("digits")
x = data.binarize(digits.train[:100], "dynamic", mv.Generator(0))


def new():
    """A VAE, its loss and its optimizer; each call gives the same numbers."""
    vae = VAE(pixels=64, hidden=(100,), latents=5, rng=mv.Generator(1))
    return vae, lambda x, rng: -vae.elbo(x, rng).mean(), optim.Adam(vae.parameters(), 1e-3)


vae, loss, adam = new()
rng = mv.Generator(2)


def eager():
    """One step, by the engine."""
    adam.step(mv.grad(loss(x, rng), adam.parameters))


eager()
weight, h = vae.parameters()[0].data, x @ vae.parameters()[0].data
products = lambda: [x @ weight for _ in range(2)] + [x.T @ h, h.T @ h[:, :5]]
times = {name: 1e6 * min(repeat(f, number=50, repeat=9)) / 50 for name, f in (("step", eager), ("products", products))}
fig = plots.figure(6.0, 2.0)
plots.panel(axes := fig.add_subplot(), "one eager step, and four matrix products of its sizes", "microseconds", "")
axes.barh(list(times), list(times.values()), color=["0.4", "0.8"], edgecolor="black")
show(fig, "eager")
print(f"a step {times['step']:.0f} us; large products take little of it: the rest is many small things, and Python")

# %% [markdown]
# ## 2. The trace
#
# Run the step once more, really, and write down what happens. minivi's arrays say so themselves: within `Trace` they
# are of a class that notes each NumPy operation (`__array_ufunc__`), and kernels note their launches. So the trace has
# no `if`, no loop and no function call of the model: these have been *followed*, as JAX and PyTorch follow them.


# %%
def traced(loss, adam, x, rng):
    """The trace of a real step, and loss and gradients as places in its memory."""
    with Trace(rng, adam.parameters) as trace:
        value = loss(trace.input(x), rng)
        gradients = mv.grad(value, adam.parameters)
        return trace, trace.sign(value._data.view(np.ndarray)), [trace.sign(g.view(np.ndarray)) for g in gradients]


trace, place_of_loss, places = traced(loss, adam, x, rng)
kinds = Counter(o.kind for o in trace.operations)
print(f"{len(trace.operations)} operations: {dict(kinds)}; {len(trace.memory)} pieces of memory")
for i, o in enumerate(trace.operations[:14]):
    given = ", ".join("x".join(map(str, a.shape)) or "number" for a in arrays_in(o.args, type(place_of_loss)))
    print(f"{i:3d} {o.kind:7s} {o.name:22s} {given}")

# %% [markdown]
# A *launch* is one of minivi's kernels, a *call* one of NumPy's functions, a *draw* asks the generator. A *guard* is a
# place where Python looked at numbers, here "are all pixels in [0, 1]?", and went on by the answer. What is new in a
# later step comes in through the batch and the draws; parameters stay where they are. All else is a constant, which is
# the danger:
#
# ## 3. What must not be frozen
#
# A loss with a weight that grows from step to step: the number is not an array, so a trace holds the value that it had.
# `Step` therefore traces *two* steps and compares them, constant by constant; then it runs the second both ways and
# compares bits. Where anything differs it stays eager and says why.

# %%
vae, _, adam = new()
count = 0


def warmed_up(x, rng):
    """The bound with a KL term that counts more each step (section 2.9)."""
    global count
    count += 1
    terms = vae.terms(x, rng)
    return -(terms.log_px_z + min(1.0, count / 1000) * (terms.log_pz - terms.log_qz_x)).mean()


step, rng = Step(warmed_up, adam, quiet=True), mv.Generator(2)
for _ in range(8):
    step(x, rng)
print(f"{step.compiled} steps of 8 ran as a program; {step.why}")

# %% [markdown]
# ## 4. A program, by hand
#
# The note is enough to do the step again. Give every operation its arrays in memory that stays, and call them in order:
# no tape, no shapes to check, no memory to ask for. Is it the same step? The generator is set back to where it was.

# %%
vae, loss, adam = new()
rng = mv.Generator(2)
eager()  # so that Adam has its moments
before = rng.state
trace, place_of_loss, places = traced(loss, adam, x, rng)
rng.state = before
value = loss(x, rng)
gradients = mv.grad(value, adam.parameters)
program = Program(trace, [place_of_loss], [places], optimizers=[adam])
rng.state = before
program.run([x])
same = all(a.tobytes() == b.tobytes() for a, b in zip(gradients, program.gradients[0], strict=True))
print(f"loss: eager {value.item()!r}, program {program.losses[0].item()!r}")
print(f"{len(gradients)} gradients, the same to the bit: {same}; {len(program.actions)} calls from Python")
assert same and value.item() == program.losses[0].item()

# %% [markdown]
# The program's calls are few, because launches that follow each other stand in one table, and one compiled loop goes
# through it (`kernels/launches.py`). With two threads each claims its half of a launch by an atomic exchange, and
# nobody goes on before all halves are done. Which thread did a piece changes no bit. One thing a program leaves out:
# what NumPy gave before, from arrays into which nobody has written since, such as another copy of the same slice.
#
# ## 5. Memory
#
# An array is needed from the operation that makes it to the last that reads it. Walk through the operations; give each
# new array the first gap that is large enough; when an array has been read for the last time, its place is free.

# %%
lives, size = {}, {}
for i, o in enumerate(trace.operations):
    for own in arrays_in((o.args, o.kwargs, o.out), type(place_of_loss)):
        if own.number not in program._fixed:
            first, _ = lives.get(own.number, (i, i))
            lives[own.number], size[own.number] = (first, i), trace.memory[own.number]
taken, place = [], {}  # taken: (begin, end, last operation)
for i in range(len(trace.operations)):
    for number in [n for n, (first, _) in lives.items() if first == i]:
        begin = 0
        for other, end, _ in sorted(taken):
            if other - begin >= size[number]:
                break
            begin = max(begin, end)
        place[number] = begin
        taken.append((begin, begin + size[number], lives[number][1]))
    taken = [t for t in taken if t[2] > i]
arena = max(place[n] + size[n] for n in place)
fig = plots.figure(7.5, 3.6)
plots.panel(axes := fig.add_subplot(), "the arena: each array in its place, while it lives", "operation", "address, kB")
for n, (first, last) in lives.items():
    axes.broken_barh([(first, last - first + 1)], (place[n] / 1e3, size[n] / 1e3), facecolor="0.8", edgecolor="black")
axes.autoscale_view()
show(fig, "arena")
print(f"{len(size)} arrays of {sum(size.values()) / 1e3:.0f} kB live in {arena / 1e3:.0f} kB;", end=" ")
print(f"the library's plan needs {program.arena.nbytes / 1e3:.0f} kB")
for a in place:
    for b in place:
        at_once = a < b and lives[a][0] <= lives[b][1] and lives[b][0] <= lives[a][1]
        assert not (at_once and place[a] < place[b] + size[b] and place[b] < place[a] + size[a])

# %% [markdown]
# A small arena stays in the core's cache. And a fault would show: the tests fill the arena with NaN before each step.
#
# ## 6. A guard that fails
#
# The bound asks whether all pixels lie in [0, 1], and the trace has the answer: yes. A batch with a pixel of 2 makes
# the guard fail *before* any parameter has changed; the engine does the step, and says what it has to say.

# %%
vae, loss, adam = new()
step, rng = Step(loss, adam), mv.Generator(2)
for batch in data.batches(digits.train[:1000], size=100, rng=mv.Generator(3)):
    step(data.binarize(batch, "dynamic", mv.Generator(4)), rng)
before, spoiled = [p.data.copy() for p in vae.parameters()], x.copy()
spoiled[3, 4] = 2.0
try:
    step(spoiled, rng)
except ValueError as error:
    print(f"ValueError: {error}")
same = all(np.array_equal(p.data, q) for p, q in zip(vae.parameters(), before, strict=True))
print(f"{step.compiled} of 10 steps were compiled before; parameters are as they were: {same}")
assert same and step.compiled

# %% [markdown]
# ## 7. What it gains
#
# Both ways in turn, so that whatever else the machine does hits both; the ratio is that of medians.

# %%
ways = {}
for name in ("eager", "compiled"):
    vae, loss, adam = new()
    step, rng = Step(loss, adam, compiled=name == "compiled"), mv.Generator(2)
    with Watch() as watch:
        for _ in range(20):
            step(x, rng)
    ways[name] = (step, rng, [], watch)
for _ in range(60):
    for step, rng, seconds, _ in ways.values():
        begun = perf_counter()
        for _ in range(5):
            step(x, rng)
        seconds.append((perf_counter() - begun) / 5)
fig = plots.figure(6.0, 2.8)
plots.panel(axes := fig.add_subplot(), "a step, 60 rounds", "round", "microseconds")
for i, (name, (_, _, seconds, _)) in enumerate(ways.items()):
    axes.plot(1e6 * np.array(seconds), label=name, **plots.style(i, 60))
axes.set_ylim(bottom=0)
axes.legend(fontsize=8)
show(fig, "times")
slow, fast = (np.median(ways[name][2]) for name in ways)
print(f"eager {1e6 * slow:.0f} us, compiled {1e6 * fast:.0f} us: {slow / fast:.1f} times as fast")
print(ways["compiled"][3].profiles[0].text())

# %% [markdown]
# On 784 pixels and 500 units products take most of a step, and the gain is less: `minivi profile vae`, `minivi bench`.
#
# ## 8. Try
#
# 1. In section 3 replace `count / 1000` by 0.5: what does `step.why` say, and how many steps are compiled?
# 2. Let `warmed_up` take a batch (x, weight), with `np.full(1, count / 1000, "float32")` from outside for the weight:
#    `step((x, weight), rng)`. Why is the step compiled now, with the weight still growing?
# 3. In section 5 hand out places in the order of size, largest first. Is the arena smaller? What is its lower bound?
# 4. Write in `loss` `if vae.encoder.layers[0].weight.data.max() > 10: raise ValueError`. Is that a guard, and does it
#    hold for ever? (Look at `Trace.parameters`.)
