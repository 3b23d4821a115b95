"""Trained models as files: :func:`save`, and :func:`load` of a file, a folder, or what an experiment's run has left.

A file holds arrays, and as JSON the class and the arguments that the model was made with (:mod:`minivi.nn.recipes`). No
file is ever run as code: classes are those of a closed list, the library's own, and their arguments numbers and names.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np

from minivi import distributions, flows, models, nn
from minivi.experiments import find
from minivi.experiments.results import stored
from minivi.files import TrainingError, load_arrays, save_arrays
from minivi.models import belief, directed, resnet, resnet_vae
from minivi.nn import Module
from minivi.random import Generator
from minivi.training import CHECKPOINT

SHOWN = 6  # choices in a message


def _closed_list():
    """What a file may name: modules, distributions, activations, by their names."""
    found = {}
    for module in (distributions, nn, flows, models, belief, directed, resnet, resnet_vae):
        for name, value in vars(module).items():
            ours = inspect.isclass(value) and value.__module__.startswith("minivi.") and name[0] != "_"
            if ours and (issubclass(value, Module) or value.__module__ == "minivi.distributions"):
                found[name] = value
    return found | nn.ACTIVATIONS | {"gaussian_of_heads": directed.gaussian_of_heads}


KNOWN = _closed_list()


def save(path: str | os.PathLike, model: Module, **about: Any) -> None:
    """Write a model's weights and how it was made into one safetensors file, whole or not at all.

    Args:
        path: of the file.
        model: any Module; :func:`load` gives it back if its class is the library's.
        about: what else to note, as JSON can hold it.

    Raises:
        TrainingError: the file cannot be written.
    """
    arrays = {f"model.{name}": value for name, value in model.state_dict().items()}
    save_arrays(path, arrays, about | {"recipe": model.recipe})


def load(where: str | os.PathLike, out: str | os.PathLike = "runs") -> Module:
    """The trained model of a file, a folder or an experiment's run: its best weights, if the run kept them.

    Args:
        where: a file of :func:`save`, a checkpoint or its folder; or the key of an experiment that has run, such as
            "ch02_aevb.manifold". Of several models the message lists their folders; "ch02_aevb.samples:latents5" is the
            one with that text in the folder's name.
        out: the folder of the runs, for a key.

    Raises:
        ExperimentError: no such experiment.
        TrainingError: nothing there, several models, or one that this library cannot build.

    Example:
        >>> import tempfile
        >>> from minivi import Generator
        >>> from minivi.models import VAE
        >>> vae = VAE(pixels=64, hidden=(10,), latents=2, rng=Generator(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/vae.safetensors", vae)
        ...     again = load(f"{folder}/vae.safetensors")
        >>> again
        VAE(encoder=MLP(64-10-4, tanh), decoder=MLP(2-10-64, tanh)): 1,398 parameters
    """
    path = locate(where, out)
    arrays, about = load_arrays(path)
    recipe = about.get("recipe")
    if not isinstance(recipe, dict):
        raise TrainingError(f"{path} does not say how its model is made; train it again with this version")
    best = [name for name in arrays if name.startswith("best.")]
    part = "best." if best else "model."
    state = {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
    try:
        return _filled(recipe, state)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        raise TrainingError(
            f"{path}: its model, a {recipe.get('class')}, cannot be made again: {reason}; build it yourself, then "
            "load_state_dict"
        ) from None


def _filled(recipe, state):
    """The model with its weights; of a trainer of a model, such as NVIL, the model alone."""
    if recipe["class"] not in KNOWN:
        inner = [item for item in (*recipe["arguments"], *recipe["options"].values()) if isinstance(item, dict)]
        for item in (item for item in inner if item.get("class") in KNOWN):
            for prefix in sorted({name.partition(".")[0] for name in state}):
                part = {n.removeprefix(f"{prefix}."): a for n, a in state.items() if n.startswith(f"{prefix}.")}
                with contextlib.suppress(ValueError):
                    return _filled(item, part)
    model = built(recipe)
    kinds = {a.dtype for a in state.values()} - {p.dtype for _, p in model.named_parameters()}
    if kinds:  # it had been changed by astype
        model = model.astype(kinds.pop())
    model.load_state_dict(state)
    return model


def built(recipe: Any) -> Any:
    """The value that :func:`minivi.nn.recipes.told` has told; a Module is built anew, with initial weights.

    Raises:
        ValueError: it names a class that is not in the closed list, or an argument that JSON could not hold.
    """
    if isinstance(recipe, list):
        return tuple(map(built, recipe))
    if not isinstance(recipe, dict):
        return recipe
    if "class" in recipe:
        args, options = recipe["arguments"], recipe["options"]
        return _known(recipe["class"])(*map(built, args), **{name: built(item) for name, item in options.items()})
    ((kind, value), *_) = recipe.items()
    if kind == "dict":
        return {built(key): built(item) for key, item in value}
    if kind == "generator":
        rng = Generator(0)
        rng.state = value
        return rng
    if kind == "array":
        return np.array(value, recipe["dtype"])
    if kind == "name":
        return _known(value)
    raise ValueError(f"an argument of it, {value}, is none that a file can hold")


def _known(name):
    if name not in KNOWN:
        raise ValueError(f"{name} is not in minivi.models")
    return KNOWN[name]


# ------------------------------------------------------------------------------------------------ where they are
def locate(where: str | os.PathLike, out: str | os.PathLike = "runs") -> Path:
    """The one file of weights that ``where`` means; arguments and errors as for :func:`load`."""
    path = Path(where)
    if path.is_file():
        return path
    if path.is_dir():
        return _the_one(sorted(path.rglob(CHECKPOINT)) or sorted(path.rglob("*.safetensors")), path)
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        raise TrainingError(f"no file or folder {where}; `minivi run EXPERIMENT` leaves its models in {out}")
    key, _, part = str(where).partition(":")
    keys = [entry.key for entry in find(key)]
    runs = [about for about in map(stored, sorted(Path(out).glob("*.json"))) if about and about["experiment"] in keys]
    if not runs:
        raise TrainingError(f"{out} has no run of {key}; `minivi run {key} --out {out}` makes one")
    names = dict.fromkeys(name for about in runs for name in about.get("weights", ()))
    files = [file for file in (Path(out) / name for name in names) if file.is_file()]
    if not files:
        raise TrainingError(f"the run of {key} in {out} left no weights: it keeps none, or they were removed")
    chosen = [file for file in files if part in file.parent.name]
    if not chosen:
        names = ", ".join(file.parent.name for file in files[:SHOWN])
        raise TrainingError(f"no model of {key} in {out} has {part!r} in its folder's name; there are {names}")
    return _the_one(chosen, where)


def _the_one(files, where):
    if not files:
        raise TrainingError(f"{where} holds no weights; `minivi run EXPERIMENT` leaves them in its folder")
    if len(files) > 1:
        names = [str(file.parent if file.name == CHECKPOINT else file) for file in files]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise TrainingError(
            f"{where} has {len(files)} models; give one of {', '.join(names[:SHOWN])}{more}; or KEY:TEXT, a part of "
            "one's name alone"
        )
    return files[0]


def run_of(path: str | os.PathLike) -> dict[str, Any]:
    """What a run says of the file of weights that it left (its JSON), or an empty dict."""
    path = Path(path).resolve()
    for folder in path.parents[:4]:
        for about in map(stored, sorted(folder.glob("*.json"))):
            if about and any((folder / name).resolve() == path for name in about.get("weights", ())):
                return about
    return {}
