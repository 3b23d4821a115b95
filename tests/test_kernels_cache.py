"""Compiled code on disk: damaged, stale, of other settings, written by two at once, or not to be written at all."""

import errno
import os
import threading
import warnings

import numba
import numpy as np
import pytest

if numba.config.DISABLE_JIT:
    pytest.skip("with NUMBA_DISABLE_JIT=1 nothing is compiled", allow_module_level=True)

from numba import types
from numba.core.ccallback import CFunc
from numba.core.registry import cpu_target

from minivi import kernels
from minivi.kernels import jit


def _triple(p, s, lo, hi):
    for i in range(lo, hi):
        p[1][i] = 3 * p[0][i]


def _halve(p, s, lo, hi):
    for i in range(lo, hi):
        p[1][i] = p[0][i] / 2


def run(function, dtype=np.float32):
    """Compile ``function`` or load it, as a new process would, and run it on 1, 2, 3."""
    x, out = np.arange(1, 4).astype(dtype), np.empty(3, dtype)
    jit.launch(jit.chunk(function), 3, (x, out))
    return out.tolist()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty cache of our own. (What :func:`run` compiles besides, ``_launch``, is compiled before.)"""
    run(_triple), run(_triple, np.float64)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jit, "_said", set())
    return tmp_path


@pytest.fixture
def compiled():
    """The names of the kernels that were compiled, not loaded."""
    names = []
    kernels.on_compile.append(names.append)
    yield names
    kernels.on_compile.remove(names.append)


def files(folder):
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def test_code_is_compiled_once_for_each_type(folder, compiled):
    for _ in range(2):
        assert run(_triple) == run(_triple, np.float64) == [3, 6, 9]
    assert compiled == ["triple", "triple"]
    assert len(files(folder)) == 2


def test_two_writers_at_once_do_not_take_one_type_for_the_other(folder, monkeypatch):
    """Both have looked before either writes; the second writes all after the first write of the first."""
    codes = {}
    for dtype in map(np.dtype, (np.float32, np.float64)):
        array = types.CPointer(types.CPointer(numba.from_dtype(dtype)))
        arguments = (array, types.CPointer(types.float64), types.int64, types.int64)
        code = CFunc(_triple, (arguments, types.void), locals={}, options=jit.MATH)
        code._cache.save_overload = lambda *found, dtype=dtype: codes.update({dtype.name: found})
        code.compile()
    looked, begun, ended = threading.Barrier(2, timeout=10), threading.Event(), threading.Event()
    writes, replace = [], os.replace

    def in_turn(*paths):
        name = threading.current_thread().name
        writes.append(name)
        if writes.count(name) == 1:
            looked.wait()
        if name == "float64":
            assert begun.wait(10)
        elif writes.count(name) > 1:
            assert ended.wait(10)
        replace(*paths)
        begun.set()

    def save(name):
        jit._Cache(_triple).save_overload(*codes[name])
        if name == "float64":
            ended.set()

    monkeypatch.setattr(os, "replace", in_turn)
    threads = [threading.Thread(target=save, args=(name,), name=name) for name in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    assert set(writes) == {"float32", "float64"}
    assert run(_triple) == run(_triple, np.float64) == [3, 6, 9]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def loop(path):
    path.unlink()
    path.symlink_to(path)


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte short": cut,
    "one bit flipped": flip,
    "only its sums": lambda path: path.write_bytes(path.read_bytes()[:64]),
    "garbage": lambda path: path.write_bytes(os.urandom(5000)),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04N."),
    "a link to itself": loop,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_compiled_afresh_replaced_and_told_once(kind, folder, compiled):
    run(_triple), run(_halve)
    for path in files(folder):
        DAMAGE[kind](path)
    compiled.clear()
    with pytest.warns(RuntimeWarning) as told:
        assert run(_triple) == [3, 6, 9]
        assert run(_halve) == [0.5, 1, 1.5]
    assert compiled == ["triple", "halve"]
    says = "cannot be read" if kind in ("a link to itself", "a folder") else "is damaged"
    assert str(told[0].message).startswith(str(folder)) and says in str(told[0].message)
    if kind == "a folder":  # which is not ours to remove
        assert len(told) == 2 and "cannot keep compiled kernels (" in str(told[1].message)
    else:
        assert len(told) == 1
        assert run(_triple) == [3, 6, 9] and compiled == ["triple", "halve"]


def test_the_code_of_another_kernel_is_not_taken(folder, compiled):
    run(_triple)
    (triple,) = files(folder)
    content = triple.read_bytes()
    run(_halve)
    (halve,) = set(files(folder)) - {triple}
    halve.write_bytes(content)
    assert run(_halve) == [0.5, 1, 1.5]
    assert compiled == ["triple", "halve", "halve"]


def test_a_full_disk_is_told_once_and_leaves_nothing(folder, monkeypatch):
    def full(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(RuntimeWarning, match=rf"^{folder}.* \(No space left on device\): .* NUMBA_CACHE_DIR") as told:
        assert run(_triple) == [3, 6, 9]
        assert run(_halve) == [0.5, 1, 1.5]
    assert len(told) == 1 and not files(folder)


def test_no_folder_at_all_is_told_once(monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", os.path.join(os.devnull, "cache"))
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    with pytest.warns(RuntimeWarning, match="no folder can keep compiled kernels: .* NUMBA_CACHE_DIR") as told:
        assert run(_triple) == [3, 6, 9]
        assert run(_halve) == [0.5, 1, 1.5]
    assert len(told) == 1


def test_code_from_other_sources_is_replaced_without_a_word(folder, compiled, monkeypatch):
    run(_triple)
    monkeypatch.setattr(jit, "SOURCES", b"edited")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(_triple) == [3, 6, 9]
    assert compiled == ["triple", "triple"] and len(files(folder)) == 1


def test_each_setting_and_each_instruction_set_has_its_own_code(folder, compiled, monkeypatch):
    run(_triple)
    monkeypatch.setattr(jit, "SETTINGS", [*jit.SETTINGS, "other"])
    run(_triple)
    codegen = type(cpu_target.target_context.codegen())
    monkeypatch.setattr(codegen, "magic_tuple", lambda self: ("x86_64", "another CPU", "+avx2"))
    run(_triple)
    assert len(compiled) == len(files(folder)) == 3
