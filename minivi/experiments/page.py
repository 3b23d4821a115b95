"""The gallery of stored results: each picture with its source, command and claims, as a page of Markdown."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minivi.experiments.results import VERDICTS, ExperimentError, claims_of, stored
from minivi.files import write_atomically
from minivi.tables import duration

# The chapters in the order of reading
READING = (
    "ch01_models", "ch02_aevb", "ch02_gradients", "ch02_posterior", "ch02_marginal_likelihood", "ch02_pca",
    "ch02_autoencoder", "ch02_latent_space", "ch02_challenges", "report_review", "report_refinement",
    "ch03_semi_supervised", "ch06_dropout", "ch02_full_vb", "report_tighter_bounds", "report_tighter_bounds_gradients",
    "ch07_adam", "ch07_experiments", "ch04_autoregressive", "ch04_invertible", "ch04_layers", "ch05_auxiliary",
    "ch05_flows", "ch05_iaf", "ch05_resnet",
)  # fmt: skip


def results_in(folder: str | os.PathLike) -> dict[Path, dict[str, Any]]:
    """The results in a folder by the paths of their JSON files, in the order of reading."""
    found = {path: about for path in Path(folder).glob("*.json") if (about := stored(path))}

    def place(path):
        chapter = found[path]["experiment"].partition(".")[0]
        return READING.index(chapter) if chapter in READING else len(READING), path.stem

    return {path: found[path] for path in sorted(found, key=place)}


def count_claims(folder: str | os.PathLike) -> tuple[int, dict[str, int]]:
    """The number of results in the JSON files of ``folder``, and of their claims by verdict."""
    results = results_in(folder)
    count = Counter(claim.verdict for about in results.values() for claim in claims_of(about))
    return len(results), {verdict: count[verdict] for verdict in VERDICTS}


def told_count(folder: str | os.PathLike) -> str:
    """The numbers of :func:`count_claims` in words, as the README has them."""
    results, count = count_claims(folder)
    return (
        f"{results} results with {sum(count.values())} claims of the documents, of which {count['holds']} hold, "
        f"{count['does not hold']} do not, and {count['undecided']} are undecided"
    )


def write_page(folder: str | os.PathLike) -> Path:
    """Write README.md into ``folder``: a gallery of the results there, in the order of reading.

    Raises:
        ExperimentError: there are none.
    """
    folder = Path(folder)
    results = results_in(folder)
    if not results:
        raise ExperimentError(f"no results in {folder}; minivi run EXPERIMENT --out {folder} puts some there")

    parts = [
        f"# Results\n\n{told_count(folder)}. A claim is undecided where its numbers are nearer to the other verdict "
        "than two standard errors, or the run is too short for it. Each line below a picture is a claim with its "
        "numbers, below the document's sentence; the JSON file beside the picture has all numbers, settings, versions "
        f"and times. `minivi results {folder.name}` prints the tables."
    ]
    chapter = ""
    for path, about in results.items():
        if about["experiment"].partition(".")[0] != chapter:
            chapter = about["experiment"].partition(".")[0]
            parts.append(f"## {chapter}")
        parts.append(_entry(path, about, [p.stem for p in results]))
    target = folder / "README.md"
    write_atomically(target, ("\n\n".join(parts) + "\n").encode())
    return target


def pictures_of(path: Path, stems: list[str]) -> list[Path]:
    """The pictures of the result in ``path``, not those of another of the ``stems`` that begins like it."""
    longer = tuple(stem for stem in stems if stem.startswith(f"{path.stem}_"))
    return [
        picture
        for picture in sorted(path.parent.glob(f"{path.stem}*.png"))
        if picture.stem == path.stem
        or (picture.stem.startswith(f"{path.stem}_") and not picture.stem.startswith(longer))
    ]


def _entry(path, about, stems):
    """One result: heading, pictures, where it comes from, claims."""
    pictures = [f"![{about['experiment']}: {about['mirrors']}]({p.name})" for p in pictures_of(path, stems)]
    facts = f"{facts_of(about)}, [numbers]({path.name})"
    lines = claim_lines(about, lambda verdict: "holds:" if verdict == "holds" else f"**{verdict}**:")
    return "\n\n".join(filter(None, [f"### {about['mirrors']}", *pictures, facts, lines]))


def command_of(about: dict[str, Any]) -> str:
    """The command that makes a result again."""
    changes = [shlex.quote(f"{name}={json.dumps(value)}") for name, value in about.get("changes", {}).items()]
    command = f"minivi run {about['experiment']} --budget {about['budget']}"
    return "".join([command, f" --seed {about['seed']}" * bool(about["seed"]), *(f" --set {text}" for text in changes)])


def facts_of(about: dict[str, Any]) -> str:
    """Where a result comes from: its command, data, seed, time and commit."""
    data = about["settings"].get("data")
    command = f"`{command_of(about)}`" + (f" ({data})" if data else "")
    return f"{command}, seed {about['seed']}, {duration(about['seconds'] / 60)}, commit {about['commit']}"


def claim_lines(about: dict[str, Any], mark: Callable[[str], str], plain: Callable[[str], str] = str) -> str:
    """A list of a result's claims, each sentence of a document once above its own.

    Args:
        about: the result.
        mark: how a verdict is shown.
        plain: what is done to texts.
    """
    lines, said = [], None
    for claim in claims_of(about):
        if claim.sentence and claim.sentence != said:
            lines.append(f'- {plain(claim.source)}: "{plain(claim.sentence)}"')
        said = claim.sentence
        lines.append(f"{'  ' if said else ''}- {mark(claim.verdict)} {plain(str(claim))}")
    return "\n".join(lines)
