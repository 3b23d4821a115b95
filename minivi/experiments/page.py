"""The gallery of stored results: each picture with its source, command and claims, as a page of Markdown."""

from __future__ import annotations

import os
from pathlib import Path

from minivi.experiments.results import ExperimentError, claims_of, stored
from minivi.files import write_atomically
from minivi.tables import duration

# The chapters in the order of reading
READING = (
    "ch01_models", "ch02_aevb", "ch02_gradients", "ch02_posterior", "ch02_marginal_likelihood", "ch02_pca",
    "ch02_autoencoder", "ch02_latent_space", "ch02_challenges", "report_review", "report_refinement",
    "ch03_semi_supervised", "ch02_full_vb", "report_tighter_bounds", "report_tighter_bounds_gradients", "ch07_adam",
    "ch07_experiments", "ch04_autoregressive", "ch04_invertible", "ch04_layers", "ch05_auxiliary", "ch05_flows",
    "ch05_iaf",
)  # fmt: skip


def verdict(holds: bool) -> str:
    """A claim's verdict in a word or two."""
    return "holds" if holds else "**not reproduced**"


def count_claims(folder: str | os.PathLike) -> tuple[int, int, int]:
    """Results, claims and claims that hold, of the JSON files in ``folder``."""
    results = [about for path in Path(folder).glob("*.json") if (about := stored(path))]
    claims = [claim["holds"] for about in results for claim in about["claims"]]
    return len(results), len(claims), sum(claims)


def write_page(folder: str | os.PathLike) -> Path:
    """Write README.md into ``folder``: a gallery of the results there, in the order of reading.

    Raises:
        ExperimentError: there are none.
    """
    folder = Path(folder)
    results = {path: about for path in folder.glob("*.json") if (about := stored(path))}
    if not results:
        raise ExperimentError(f"no results in {folder}; minivi run EXPERIMENT --out {folder} puts some there")

    def place(path):
        chapter = results[path]["experiment"].partition(".")[0]
        return READING.index(chapter) if chapter in READING else len(READING), path.stem

    count, claims, hold = count_claims(folder)
    parts = [
        "# Results\n\n"
        f"{count} results with {claims} claims of the documents: {hold} hold, {claims - hold} are not reproduced. Each "
        "line below a picture is a claim with its numbers; the JSON file beside the picture has all numbers, settings, "
        f"versions and times. `minivi results {folder.name}` prints the tables."
    ]
    chapter = ""
    for path in sorted(results, key=place):
        if results[path]["experiment"].partition(".")[0] != chapter:
            chapter = results[path]["experiment"].partition(".")[0]
            parts.append(f"## {chapter}")
        parts.append(_entry(path, results[path], [p.stem for p in results]))
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
    key = about["experiment"]
    data = about["settings"].get("data")
    command = f"minivi run {key} --budget {about['budget']}" + (f" --seed {about['seed']}" if about["seed"] else "")
    facts = [
        f"`{command}`" + (f" ({data})" if data else ""), f"seed {about['seed']}", duration(about["seconds"] / 60),
        f"commit {about['commit']}", f"[numbers]({path.name})",
    ]  # fmt: skip
    pictures = [f"![{key}: {about['mirrors']}]({picture.name})" for picture in pictures_of(path, stems)]
    lines = [f"- {verdict(holds)}: {claim}" for claim, holds in claims_of(about)]
    return "\n\n".join(filter(None, [f"### {about['mirrors']}", *pictures, ", ".join(facts), "\n".join(lines)]))
