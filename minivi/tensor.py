"""The engine: reverse-mode differentiation of NumPy programs.

A :class:`Tensor` is a NumPy array that remembers the primitive and the arguments that made it. Each gets a birth
number, and arguments are always older than results, so *descending birth is a valid order for the backward pass*: no
recursion.

    x ──► [exp] ──► y ──► [sum] ──► loss          forward: each primitive computes, and notes its arguments
    gx ◄── vjp ◄─── gy ◄── vjp ◄─── 1.0           grad(loss, [x]): each vjp turns the cotangent of a result into
                                                  those of its arguments; several arrive at one Tensor: they add up

A primitive called with plain arrays is just its NumPy function. Vector-Jacobian products (vjps) are written in
primitives, so they run on plain arrays (fast, nothing recorded), or, with ``differentiable=True``, on Tensors, which
makes the gradient itself differentiable. Gradients are returned, never stored.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minivi.kernels.shapes import now

FLOATS = (np.dtype("float32"), np.dtype("float64"))
_SINGLE, _DOUBLE = FLOATS
PRIMITIVES: dict[str, Primitive] = {}

_FIXED = {int, float, bool, str, slice, np.float32, np.float64, type(None), type(...)}  # what nobody can write into
_ARRAYS = {np.ndarray}  # the types that primitives take as they are; a traced step has one more
_SMALL = 16384  # bytes: copying so many takes as long as looking at a sample twice
_births = itertools.count()
_new = object.__new__


class _Mode(threading.local):
    recording = True
    checking = False
    usual = True  # recording and not checking: one look where two would be needed

    def __init__(self):
        self.before = []  # kept here, not by the blocks: one object may be entered twice, or by several threads

    def enter(self, recording, checking):
        self.before.append((self.recording, self.checking))
        self.recording, self.checking, self.usual = recording, checking, recording and not checking

    def leave(self):
        self.recording, self.checking = self.before.pop()
        self.usual = self.recording and not self.checking


_mode = _Mode()


class Tensor:
    """A float32 or float64 array that :func:`grad` can differentiate with respect to.

    A copy (``copy.copy``, ``copy.deepcopy``, unpickling) is a new leaf of its own: its values, without the graph.

    Args:
        data: anything that ``np.array`` takes, of floats; it is copied, so later writes into it do not reach the graph.
        dtype: "float32" or "float64"; by default that of ``data``.

    Raises:
        TypeError: ``data`` is not of floats, or a list of Tensors, or ``dtype`` is neither float32 nor float64.

    Example:
        >>> x = Tensor([1.0, 2.0])
        >>> y = (x * x).sum()
        >>> y.item()
        5.0
        >>> grad(y, x)
        array([2., 4.])
    """

    __slots__ = ("__weakref__", "_arrays", "_birth", "_data", "_kwargs", "_marks", "_op", "_parents", "_saved")
    __hash__ = object.__hash__

    def __init__(self, data: Any, dtype: Any = None):
        if dtype is not None:
            try:
                dtype = np.dtype(dtype)
            except TypeError:
                raise TypeError(f"Tensor: unknown dtype {dtype!r}; use 'float32' or 'float64'") from None
        _refuse_lists_of_tensors(data)
        data = data._data if isinstance(data, Tensor) else data
        if type(data) in _ARRAYS and type(data) is not np.ndarray:  # np.array would hide it from the trace
            array = data.astype(dtype or data.dtype).copy()
        else:
            array = np.array(data, dtype, order="C")
        if array.dtype not in FLOATS:
            mend = "use 'float32' or 'float64'" if dtype is not None else "pass floats, e.g. np.asarray(x, 'float64')"
            raise TypeError(f"Tensor: dtype {array.dtype} (shape {array.shape}) carries no gradient; {mend}")
        self._data = _interned(array)
        self._op = None
        self._parents = ()
        self._birth = next(_births)

    @property
    def data(self) -> np.ndarray:
        """The values, as a read-only view: the graph needs them unchanged."""
        _met(self)
        view = self._data.view()
        view.flags.writeable = False
        return view

    def __reduce__(self):
        return type(self), (self._data,)

    def __array__(self, dtype=None, copy=None):
        if copy or (dtype is not None and dtype != self._data.dtype):
            return self._data.astype(dtype or self._data.dtype)
        return self.data

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        """Operators of an array and a Tensor are primitives; other NumPy functions must not lose the graph."""
        if ufunc in _OPERATORS and method == "__call__" and not kwargs:  # array + tensor arrives here
            return PRIMITIVES[ufunc.__name__](*inputs)
        return _without_gradient(ufunc, getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        """What gives no floats, such as ``np.shape``, is computed; what would lose the graph is refused."""
        if function is np.shape and args:
            return args[0]._data.shape  # at once: models look at it in every step
        return _without_gradient(function, function, args, kwargs)

    shape = property(lambda self: self._data.shape)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    dtype = property(lambda self: self._data.dtype)

    def item(self) -> float:
        """The value of a Tensor of one element, as a Python float."""
        _met(self)
        return self._data.item()

    __float__ = item

    def __bool__(self):
        _met(self)
        return bool(self._data)

    def __len__(self):
        return len(self._data)

    def __repr__(self):
        made = f", made by {self._op.name}" if self._op else ""
        return f"{type(self).__name__}({np.array2string(self._data, separator=', ', threshold=20)}{made})"

    def __setitem__(self, index, value):
        raise TypeError(
            f"Tensor of shape {self.shape}{' made by ' + self._op.name if self._op else ''}: item assignment would "
            "change an array that the graph holds; build a new one with where(mask, a, b) or concatenate"
        )


class Parameter(Tensor):
    """A Tensor that an optimizer may change in place: a weight.

    Args:
        data: initial value, copied.
        name: how error messages and tables call it; a :class:`~minivi.nn.Module` fills it in.
    """

    __slots__ = ("name",)

    def __init__(self, data: Any, name: str | None = None, dtype: Any = None):
        super().__init__(data, dtype)
        self.name = name

    def assign(self, value: Any) -> None:
        """Replace the value by one of the same shape (in place, converted to this dtype).

        Raises:
            ValueError: another shape.
        """
        _met(self)
        value = np.asarray(value)
        if value.shape != self.shape:
            raise ValueError(f"assign: {self.name or 'parameter'} has shape {self.shape}, the value {value.shape}")
        self._data[...] = value
        self._touch()

    def __reduce__(self):
        return type(self), (self._data, self.name)

    def _touch(self) -> None:
        # A changed parameter is born again: graphs that hold the old value see an argument younger than its result.
        self._birth = next(_births)


class Primitive:
    """A function of arrays with its vector-Jacobian products; made by :func:`primitive`."""

    def __init__(self, function, vjps, joint, saves, linear, composed, reads, cases):
        self.function = function
        self.name = function.__name__
        self.vjps = vjps
        self.joint = joint
        self.saves = saves
        self.linear = linear
        self.composed = composed
        self.reads = reads
        self.cases = cases
        functools.update_wrapper(self, function)
        # Which arguments are variables (have a vjp); those without are constants, such as masks and indices.
        self.takes = itertools.repeat(True) if joint else [*(v is not None for v in vjps), *[False] * 4]
        PRIMITIVES[self.name] = self

    def __repr__(self):
        parameters = [p.replace(annotation=p.empty) for p in inspect.signature(self.function).parameters.values()]
        return f"primitive {self.name}{inspect.Signature(parameters)}"

    def __reduce__(self):
        return self.name  # copied and pickled by name, as functions are

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result: a Tensor if an argument that has a vjp is one, else an array."""
        arrays, parents = [], []
        recorded, dtype, numbers, convert, plain = False, None, False, False, False
        for a, takes in zip(args, self.takes, strict=False):
            parent = own = None
            if isinstance(a, Tensor):
                if takes:
                    parent, recorded, own = a, True, a._data.dtype
                a = a._data
            elif type(a) is float:
                numbers = numbers or takes
            else:
                plain = True
                if takes:
                    # a traced array of no axes stands for a NumPy scalar, which takes the other arguments' dtype
                    kept = type(a) is np.ndarray or (type(a) in _ARRAYS and a.ndim)
                    if kept and (a.dtype is _SINGLE or a.dtype is _DOUBLE):
                        own = a.dtype
                    else:
                        convert = True
            if own is not None:
                if dtype is None:
                    dtype = own
                elif dtype is not own:
                    raise self._mixed(args, dtype, own)
            arrays.append(a)
            parents.append(parent)
        if convert or (numbers and dtype is None):
            self._convert(args, arrays, dtype)
        elif numbers:
            arrays = [dtype.type(a) if type(a) is float else a for a in arrays]
        try:
            out = self.function(*arrays, **kwargs)
        except ValueError as error:
            if "broadcast" in str(error):
                raise ValueError(
                    f"{self.name}: shapes {_shapes(args)} do not broadcast; sizes must be equal or 1, aligned from "
                    "the last axis (reshape(...) or x[:, None] adds an axis)"
                ) from None
            raise
        saved = out
        if self.saves:
            out, saved = out
        if not _mode.usual:
            if _mode.checking:
                _check_finite(self.name, (out,), arrays, parents)
            if recorded and not _mode.recording:
                for parent in parents:
                    _met(parent)
                views = type(out) in _ARRAYS and out.base is not None
                return _constant(out.copy() if views and any(isinstance(a, Parameter) for a in parents) else out)
        if not recorded:
            return out
        result = _new(Tensor)
        result._data = out if type(out) in _ARRAYS else np.asarray(out)
        result._op = self
        result._arrays = arrays
        result._parents = parents
        result._kwargs = kwargs
        result._saved = saved
        held = (plain and self.reads) or (kwargs and not _FIXED.issuperset(map(type, kwargs.values())))
        result._marks = _guard(arrays, parents, kwargs) if held else ()
        result._birth = next(_births)
        return result

    def _mixed(self, args, dtype, other):
        return TypeError(
            f"{self.name}: {dtype} and {other} do not mix (shapes {_shapes(args)}); "
            "make both one with np.asarray(x, 'float32') or Module.astype"
        )

    def _convert(self, args, arrays, dtype):
        """Numbers, lists and constant integer arrays take the dtype of the float arrays; other arrays are refused."""
        variables = [i for i, takes in zip(range(len(arrays)), self.takes, strict=False) if takes]
        for i in variables:
            a = arrays[i]
            scalar = type(a) in _ARRAYS and type(a) is not np.ndarray and not a.ndim
            if isinstance(a, np.ndarray) and a.dtype in FLOATS and not scalar:  # also of a subclass, or unpickled
                arrays[i] = _interned(arrays[i] if type(arrays[i]) in _ARRAYS else np.asarray(arrays[i]))
                if dtype is not None and dtype is not arrays[i].dtype:
                    raise self._mixed(args, dtype, arrays[i].dtype)
                dtype = arrays[i].dtype
        for i in variables:
            a = arrays[i]
            if dtype is not None and isinstance(a, (int, float, np.generic)):
                arrays[i] = dtype.type(a)
            elif dtype is not None and type(a) in _ARRAYS and type(a) is not np.ndarray and not a.ndim:
                arrays[i] = a.astype(dtype)
            elif not (isinstance(a, np.ndarray) and a.dtype in FLOATS):
                _refuse_lists_of_tensors(a)
                array = a if type(a) in _ARRAYS else np.asarray(a)
                if dtype is not None and (array.dtype.kind in "biu" or (array is not a and array.dtype in FLOATS)):
                    array = array.astype(dtype)
                if array.dtype not in FLOATS:
                    raise TypeError(
                        f"{self.name}: argument {i} of dtype {array.dtype}, shape {array.shape}; only float32 and "
                        "float64 carry gradients: convert it with np.asarray(x, 'float64')"
                    )
                arrays[i] = array

    def pull(self, result, cotangent, needed, differentiable):
        """The cotangents of the arguments, given that of the ``result``; those of other arguments may be missing."""
        args, kwargs, saved = result._arrays, result._kwargs, result._saved
        if differentiable:
            args = [a if parent is None else parent for a, parent in zip(args, result._parents, strict=True)]
            saved = result
            if self.composed:
                # + 0.0 gives each argument a Tensor of its own, since one Tensor may stand in two places
                args = [a + 0.0 if i in needed else a for i, a in enumerate(args)]
                again = self.composed(*args, **kwargs)
                inner = grad(again, [args[i] for i in needed], cotangent=cotangent, differentiable=True)
                return dict(zip(needed, inner, strict=True))
        if self.joint:
            return self.joint(cotangent, saved, *args, **kwargs)
        return {i: self.vjps[i](cotangent, saved, *args, **kwargs) for i in needed}


_OPERATORS = {np.add, np.subtract, np.multiply, np.divide, np.power, np.matmul}
# Where a function of NumPy has another name here; np.r_ and np.c_ call np.ndim.
_MENDS = {
    "absolute": "ops.abs", "amax": "ops.max", "amin": "-ops.max(-x)", "append": "ops.concatenate",
    "concatenate": "ops.concatenate", "diag": "ops.diagonal", "diagonal": "ops.diagonal", "dot": "ops.matmul",
    "einsum": "ops.matmul, or ops.multiply and ops.sum", "expand_dims": "x[:, None]", "hstack": "ops.concatenate",
    "inner": "ops.matmul", "logaddexp": "ops.log_sum_exp", "min": "-ops.max(-x)", "moveaxis": "ops.transpose",
    "ndim": "x.ndim, ops.concatenate or ops.stack", "norm": "ops.sqrt(ops.sum(ops.square(x)))",
    "outer": "x[:, None] * y", "ravel": "ops.reshape", "squeeze": "ops.reshape", "stack": "ops.stack",
    "swapaxes": "ops.transpose", "take": "x[index]", "tensordot": "ops.matmul", "vdot": "ops.matmul",
    "vstack": "ops.concatenate",
}  # fmt: skip


def _without_gradient(function, call, args, kwargs):
    """The result of a NumPy function of Tensors, if it holds no floats."""
    name = function.__name__
    if name != "ndim" and kwargs.get("out") is None:
        with np.errstate(all="ignore"):
            result = call(*_detached(args), **_detached(kwargs))
        if name.endswith("_like") or not _holds_floats(result):
            return result
    module = (getattr(function, "__module__", None) or "numpy").replace("numpy", "np")
    mend = f"ops.{name}" if name in PRIMITIVES else _MENDS.get(name, "the functions of minivi.ops")
    raise TypeError(
        f"{module}.{name}: the graph of a Tensor would be lost; use {mend}, or np.asarray(x) to leave the graph"
    )


def _detached(x):
    if isinstance(x, dict):
        return {key: _detached(item) for key, item in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)([_detached(item) for item in x])
    _met(x if isinstance(x, Tensor) else None)
    return x._data if isinstance(x, Tensor) else x


def _holds_floats(x) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_holds_floats, x))
    return isinstance(x, (float, np.generic, np.ndarray)) and np.asarray(x).dtype.kind not in "biuSU"


def _guard(arrays, parents, kwargs) -> list[tuple]:
    """Make the caller's arrays safe for the graph to keep: small ones are copied, of others a sample is noted.

    The caller must not write into those before :func:`grad`, which looks at every step-th element again: 0.3 us for an
    array of any size. Under :class:`detect_nonfinite` all elements are kept.

    Returns:
        (array, step, bytes of the sample) of each.
    """
    marks = []
    for i, a in enumerate(arrays):
        if parents[i] is None and type(a) not in _FIXED:
            arrays[i] = _guarded(a, marks)
    for name, value in kwargs.items():
        if type(value) not in _FIXED:
            kwargs[name] = _guarded(value, marks)
    return marks


def _guarded(a, marks):
    if isinstance(a, np.ndarray):
        if a.nbytes <= _SMALL:
            return a.copy("K")
        values = a
    elif type(a) is tuple:  # an index of several arrays, or of none
        return a if _FIXED.issuperset(map(type, a)) else tuple([_guarded(item, marks) for item in a])
    elif type(a) is list:
        return copy.deepcopy(a)
    else:
        values = getattr(a, "data", None)  # of a sparse matrix
    if isinstance(values, np.ndarray):
        step = 1 if _mode.checking else values.size // 64 + 1
        marks.append((values, step, _sample(values, step)))
    return a


def _met(tensor):
    """Tell the open trace of the Parameters of which a Tensor is made, as its values are looked at."""
    if now.tracer is None or tensor is None:
        return
    seen, stack = set(), [tensor]
    while stack:
        t = stack.pop()
        if t is None or t._birth in seen:
            continue
        seen.add(t._birth)
        if isinstance(t, Parameter):
            now.tracer.meet(t)
        stack.extend(t._parents)


def _sample(array, step) -> bytes:
    array = array if type(array) is np.ndarray else array.view(np.ndarray)
    return (array.reshape(-1) if array.flags.c_contiguous else array.flat)[::step].tobytes()


def _interned(array):
    """``array`` with NumPy's own dtype object, which primitives compare by identity; unpickled arrays have others."""
    return array if array.dtype is _SINGLE or array.dtype is _DOUBLE else array.view(array.dtype.type)


def _refuse_lists_of_tensors(data):
    if isinstance(data, Tensor):
        return
    if isinstance(data, (list, tuple)):
        for item in data:
            if isinstance(item, Tensor):
                raise TypeError(
                    f"a list of Tensors (the first of shape {item.shape}) would lose their graph; join them with "
                    "ops.stack or ops.concatenate"
                )
            _refuse_lists_of_tensors(item)


def _constant(array) -> Tensor:
    """A leaf that shares ``array``."""
    leaf = _new(Tensor)
    leaf._data = array if type(array) in _ARRAYS else np.asarray(array)
    leaf._op = None
    leaf._parents = ()
    leaf._birth = next(_births)
    return leaf


def primitive(
    *vjps: Callable | None,
    joint: Callable | None = None,
    saves: bool = False,
    linear: bool = False,
    composed: Callable | None = None,
    reads: bool = True,
    cases: Callable,
) -> Callable[[Callable], Primitive]:
    """Decorator: make a NumPy function differentiable.

    Args:
        vjps: one for each leading argument, ``vjp(g, y, *args, **kwargs)``: from the cotangent ``g`` of the result
            ``y`` to that of the argument, in the *broadcast* shape (broadcasting is undone for all in one place);
            None for an argument that is no function's variable (a mask).
        joint: instead of ``vjps``, one function that returns the cotangents of all arguments.
        saves: the function returns ``(y, saved)``, and the vjps get ``saved`` instead of ``y``.
        linear: linear in each argument by itself (the checks then demand a zero Taylor remainder).
        composed: the same function made of other primitives: what is differentiated when a fused primitive, whose
            vjps are kernels, is asked for a second derivative.
        reads: the vjps read the values of the arguments, which must stay unchanged until then, not the shapes alone.
        cases: ``cases(a) -> [args, ...]`` for the tests; ``a(*shape)`` makes an array, ``a(.., low=, high=)`` in a
            range; a dict at the end of ``args`` holds keywords (see :func:`minivi.gradcheck.split_case`).
    """
    return lambda function: Primitive(function, vjps, joint, saves, linear, composed, reads, cases)


def grad(
    output: Tensor,
    inputs: Tensor | Sequence[Tensor],
    *,
    cotangent: Any = None,
    differentiable: bool = False,
    unused: str | None = None,
) -> Any:
    """Gradients of a scalar ``output`` with respect to ``inputs``.

    Args:
        output: a Tensor of one element, or of any shape when ``cotangent`` is given.
        inputs: a Tensor, or a sequence of them.
        cotangent: array of ``output``'s shape; the result is then the vector-Jacobian product.
        differentiable: return Tensors that can be differentiated again, instead of arrays.
        unused: what an input gets on which ``output`` does not depend: "zeros", or "none" for None. By default zeros
            too, but an ``output`` that depends on none of its inputs raises: its graph was lost.

    Returns:
        The gradient, an array shaped like its input; for a sequence a list in its order. Calling ``grad`` again on the
        same output gives the same answer: nothing is stored.

    Raises:
        ValueError: ``output`` is not a scalar and no ``cotangent`` is given, or its shape is wrong.
        TypeError: ``output`` or an input is not a Tensor.
        RuntimeError: ``output`` depends on no input, or a parameter or an array has changed since the forward pass.

    Example:
        >>> x, w = Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]])
        >>> y = (x @ w).sum()
        >>> grad(y, [x, w])
        [array([[3., 4.]]), array([[1.],
               [2.]])]
    """
    single = isinstance(inputs, (Tensor, np.ndarray))
    inputs = [inputs] if single else list(inputs)
    cotangent = _first_cotangent(output, inputs, cotangent, differentiable, unused)
    results = _results_between(inputs, output)
    wanted = {x._birth for x in inputs}
    if inputs and not results and output._birth not in wanted and unused is None:
        raise RuntimeError(
            f"grad: the output{_by(output)} of shape {output.shape} depends on no input ({len(inputs)} given, the "
            f"first of shape {inputs[0].shape}); compute it from them by ops, outside no_grad() and not through "
            "arrays, or pass unused='zeros'"
        )
    needed = wanted.union([result._birth for result in results])
    cotangents = {output._birth: cotangent}
    ours = set()  # of which results the cotangent is an array of our own, which may be summed into
    plain = not (differentiable or _mode.checking)
    with _Recording(differentiable):
        for result in reversed(results):
            birth = result._birth
            g = cotangents[birth] if birth in wanted else cotangents.pop(birth)
            op, parents = result._op, result._parents
            if result._marks:
                _check_unchanged(result)
            pulled = None
            if op.joint or not plain:
                which = [i for i, a in enumerate(parents) if a is not None and a._birth in needed]
                pulled = op.pull(result, g, which, differentiable)
                if _mode.checking:
                    _check_finite(f"the vjp of {op.name}", [pulled[i] for i in which], (g, *result._arrays))
            for i, target in enumerate(parents):
                if target is None or target._birth not in needed:
                    continue
                if pulled is None:
                    gi = op.vjps[i](g, result._saved, *result._arrays, **result._kwargs)
                else:
                    gi = pulled[i]
                if gi.shape != target._data.shape:
                    gi = _sum_to(gi, target._data.shape, op.name)
                key = target._birth
                before = cotangents.get(key)
                if key in ours:
                    before += gi
                    continue
                if before is not None:
                    gi = before + gi
                    if not differentiable:
                        ours.add(key)
                if not differentiable and type(gi) not in _ARRAYS:
                    gi = np.asarray(gi)  # NumPy makes scalars of 0-d arrays: += would change a local name only
                cotangents[key] = gi
    gradients = _of_inputs(inputs, cotangents, cotangent, differentiable, unused)
    return gradients[0] if single else gradients


def _first_cotangent(output, inputs, cotangent, differentiable, unused):
    """What :func:`grad` goes backwards from, after a look at its arguments."""
    if not isinstance(output, Tensor):
        raise TypeError(
            f"grad: the output is a {type(output).__name__}, not a Tensor: nothing was recorded; compute it from "
            "Tensors or Parameters, outside no_grad()"
        )
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise TypeError(f"grad: input {i} is a {type(x).__name__}; wrap it as Tensor(x) before the computation")
    if unused not in (None, "zeros", "none"):
        raise ValueError(f"grad: unknown unused={unused!r}; use 'zeros' or 'none', or leave it out")
    if cotangent is None:
        if output.size != 1:
            raise ValueError(
                f"grad: the output{_by(output)} has shape {output.shape}, a gradient needs a scalar; "
                "reduce it with .sum() or .mean(), or pass cotangent="
            )
        cotangent = np.ones(output.shape, output.dtype)
    elif np.shape(cotangent) != output.shape:
        raise ValueError(f"grad: the cotangent has shape {np.shape(cotangent)}, the output{_by(output)} {output.shape}")
    elif not (differentiable and isinstance(cotangent, Tensor)):
        cotangent = np.asarray(cotangent, output.dtype)
    if differentiable and not isinstance(cotangent, Tensor):
        cotangent = _constant(cotangent)
    return cotangent


def _check_unchanged(result):
    """Raise RuntimeError if a large array of which ``result`` was made has another sample of elements by now."""
    for array, step, sample in result._marks:
        if _sample(array, step) != sample:
            raise RuntimeError(
                f"grad: an array of shape {array.shape} was written to after `{result._op.name}` used it; pass a copy "
                "(x.copy()), or call grad before writing"
            )


def _of_inputs(inputs, cotangents, cotangent, differentiable, unused):
    """What :func:`grad` returns for each input, out of ``cotangents`` by birth."""
    gradients = []
    seen = {id(cotangent)}
    for x in inputs:
        g = cotangents.get(x._birth)
        if g is None and unused != "none":
            zeros = np.zeros(x.shape, x.dtype)
            g = _constant(zeros) if differentiable else zeros
        # The caller may write into an array that he gets: no two share memory, none is a view.
        if type(g) is np.ndarray and (id(g) in seen or g.base is not None or not g.flags.writeable):
            g = g.copy()
        seen.add(id(g))
        gradients.append(g)
    return gradients


def _results_between(inputs, output) -> list[Tensor]:
    """The results on some path from ``inputs`` to ``output``, oldest first."""
    behind = {output._birth: output}
    stack = [output]
    while stack:
        result = stack.pop()
        birth = result._birth
        for a in result._parents:
            if a is None:
                continue
            key = a._birth
            if key > birth:
                raise RuntimeError(
                    f"grad: {getattr(a, 'name', None) or 'a parameter'} of shape {a.shape} was changed after "
                    f"`{result._op.name}` used it; run the forward pass again before calling grad"
                )
            if key not in behind:
                behind[key] = a
                if a._parents:
                    stack.append(a)
    _met(output)
    needed = {x._birth for x in inputs}
    results = []
    for birth in sorted(behind):
        result = behind[birth]
        for a in result._parents:
            if a is not None and a._birth in needed:
                needed.add(birth)
                results.append(result)
                break
    return results


def _sum_to(g, shape, name):
    """Undo broadcasting: sum ``g`` over the axes along which an argument of ``shape`` was repeated."""
    extra = g.ndim - len(shape)
    axes = tuple(i for i, n in enumerate(g.shape) if n != 1 and (i < extra or shape[i - extra] == 1))
    summed = g
    if axes:
        summed = g.sum(axis=axes) if isinstance(g, Tensor) else np.add.reduce(g, axis=axes)
    if extra < 0 or summed.size != math.prod(shape):
        raise ValueError(f"the vjp of {name} gave a cotangent of shape {g.shape} for an argument of shape {shape}")
    return summed.reshape(shape)


def value_and_grad(f: Callable) -> Callable:
    """Make ``f(*inputs) -> scalar`` into ``g(*inputs) -> (value, [gradient of each input])``.

    Args:
        f: takes Tensors, returns a scalar Tensor.

    Example:
        >>> value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
        (5.0, [array([2., 4.])])

    Example:
        >>> value_and_grad(lambda x: x * x + x)(3.0)
        (12.0, [array(7.)])
    """

    @functools.wraps(f)
    def wrapped(*inputs):
        tensors = [x if isinstance(x, Tensor) else Tensor(x) for x in inputs]
        output = f(*tensors)
        gradients = grad(output, tensors)
        return output.item(), gradients

    return wrapped


class _Recording:
    """Switch recording on or off, and back."""

    def __init__(self, on):
        self.on = on

    def __enter__(self):
        _mode.enter(self.on, _mode.checking)

    def __exit__(self, *error):
        _mode.leave()


def no_grad() -> _Recording:
    """``with no_grad():`` primitives compute without recording: evaluation in less memory and time."""
    return _Recording(False)


def enable_grad() -> _Recording:
    """``with enable_grad():`` primitives record again inside :func:`no_grad`: for inference that follows gradients."""
    return _Recording(True)


def is_recording() -> bool:
    """Whether primitives record what they compute; False inside :func:`no_grad`."""
    return _mode.recording


class detect_nonfinite:
    """``with detect_nonfinite():`` the first thing that has or makes a NaN or infinity raises.

    That is data (a constant argument of a primitive) or a parameter, then a primitive, then a vjp with all of its
    arguments, in the order of the computation. An infinity that is passed in, such as a mask of -inf, is no fault
    until something makes NaN of it.

    Raises:
        FloatingPointError: naming it, the value, its place, the shapes of the arguments, and the mend.
    """

    def __enter__(self):
        _mode.enter(_mode.recording, True)

    def __exit__(self, *error):
        _mode.leave()


def stop_gradient(x: Tensor) -> Tensor:
    """The same values as a constant: no gradient flows through."""
    # What may be written to later is copied: a parameter, or a view of one, or the caller's array.
    return _constant(x._data) if type(x) is Tensor and x._data.base is None else Tensor(x)


def _check_finite(name, outputs, inputs, parents=None):
    """Raise if something is wrong that was right before; ``parents`` are the Tensors among a primitive's ``inputs``."""
    inputs = [(i, np.asarray(a)) for i, a in enumerate(inputs) if _is_float(a)]
    outputs = [np.asarray(out) for out in outputs]
    made_nan = any(np.isnan(out).any() for out in outputs)
    for i, a in inputs if parents else ():
        if np.isnan(a).any() or (made_nan and not np.isfinite(a).all()):
            parent, what = parents[i], _first_bad(a)
            if parent is None or parent._op is None:
                who = f"parameter {parent.name or ''}".rstrip() if isinstance(parent, Parameter) else "a constant"
                mend = "load weights from before it" if isinstance(parent, Parameter) else "clean the data"
                raise FloatingPointError(f"argument {i} of {name}, {who}, has {what}: {mend}")
    arguments = [a for _, a in inputs]
    for out in outputs:
        finite = all(np.isfinite(a).all() for a in arguments)
        if (finite and not np.isfinite(out).all()) or (made_nan and not any(np.isnan(a).any() for a in arguments)):
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(out))[0])
            at = "".join(f", there {a[place]}" for a in arguments if a.shape == out.shape)
            raise FloatingPointError(
                f"{name} made the first non-finite value: {_first_bad(out)}, from {'' if finite else 'in'}finite "
                f"arguments of shapes {_shapes(arguments)}{at}: keep them away from there, or try a smaller step size"
            )


def _first_bad(array):
    bad = ~np.isfinite(array)
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{array[place]} at {place} of shape {array.shape} ({bad.sum()} of {array.size})"


def _is_float(a) -> bool:
    return np.asarray(a).dtype.kind == "f"


def _shapes(args) -> str:
    return " and ".join(str(np.shape(a)) for a in args if isinstance(a, (Tensor, np.ndarray, float, int)))


def _by(tensor) -> str:
    return f" of `{tensor._op.name}`" if tensor._op else ""
