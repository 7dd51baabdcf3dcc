"""How well the choice of experts generalises: each data set is judged with the procedure fixed on the others.

    python -m benchmarks.choice --root FOLDER_OF_CATEGORIES --categories bottle screw --output choice.json

The embedded textures are always among the data sets. The regret of a set is the quality of its best expert,
which only the labels of its test tell, minus that of what the procedure chose without them. Quality is the
mean of image AUROC, pixel AUROC and AUPRO.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from benchmarks.detection.method import anomaly_maps
from vtadl.data import TEXTURES, ImageDataModule, MVTecAD, TextureDefects
from vtadl.density import DensitySettings, Dictionary
from vtadl.density.descriptors import make_extractors
from vtadl.metrics import DetectionMetrics
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import top_k_mean
from vtadl.tuning.candidates import candidate_experts
from vtadl.tuning.ensemble import Quality, select_bagged_ensemble, select_ensemble
from vtadl.tuning.fitting import describe, fit_member
from vtadl.tuning.selection import Choice, Comparison

_SCORING = ScoringSettings()
PROCEDURES: dict[str, Callable[[Tensor, Quality], Tensor]] = {
    "best expert": lambda scores, quality: select_ensemble(scores, quality, rounds=1),
    "one selection": select_ensemble,
    "bagged selection": select_bagged_ensemble,
    "equal weights": lambda scores, quality: torch.full((len(scores),), 1 / len(scores)),
}
Qualities = dict[str, list[float]]  # the metrics of a set by expert or procedure


def data_sets(
    root: str | None, categories: list[str], image_size: int
) -> Iterator[tuple[str, ImageDataModule]]:
    """The data sets by name."""
    for category in categories:
        yield category, MVTecAD(str(root), category, image_size=image_size)
    for texture in TEXTURES:
        yield texture, TextureDefects(texture, image_size=128, train_count=256)


def judge(data: ImageDataModule, density: DensitySettings) -> Qualities:
    """The quality in the test of each expert, and of what each procedure chooses."""
    data.setup("fit")
    images = torch.cat([batch["image"] for batch in data.unsharded_train_dataloader()])
    dictionary = Dictionary(make_extractors(density, data.image_size))
    candidates = candidate_experts(density, dictionary.descriptors, len(images))
    described = describe(dictionary, images, candidates)
    comparison = Comparison(dictionary, images, described, _SCORING)
    made = [comparison.scores(settings) for settings in candidates]
    moments = [(scores[0].mean(), scores[0].std()) for scores in made]
    experts = [fit_member(dictionary, Choice(settings), described).expert for settings in candidates]
    data.setup("test")
    tested = []
    for batch in data.test_dataloader():
        coefficients = {name: dictionary.pca_coefficients(batch["image"], name) for name in described.normal}
        with torch.no_grad():
            maps = [dictionary.on_grid(x.scores(coefficients[x.descriptor]), x.descriptor) for x in experts]
        tested.append(torch.stack([(x - m) / s for x, (m, s) in zip(maps, moments, strict=True)]))
    scores = torch.cat(tested, dim=1)
    standardised = torch.stack([(x - m) / s for x, (m, s) in zip(made, moments, strict=True)])
    names = [f"{expert.descriptor}, {expert.positions}" for expert in candidates]
    qualities = {name: quality(own, data) for name, own in zip(names, scores, strict=True)}
    for name, choose in PROCEDURES.items():
        weights = choose(standardised, comparison.separation)
        qualities[name] = quality((weights.view(-1, 1, 1, 1) * scores).sum(0), data)
    return qualities


def quality(scores: Tensor, data: ImageDataModule) -> list[float]:
    """Image AUROC, pixel AUROC and AUPRO of scores [M, rows, columns] of the test images."""
    metrics = DetectionMetrics()
    start = 0
    for batch in data.test_dataloader():
        own = scores[start : start + len(batch["image"])]
        start += len(own)
        metrics.update(
            top_k_mean(own.flatten(1), _SCORING.top_patches),
            batch["label"],
            anomaly_maps(own, data.image_size),
            batch["mask"],
            batch["has_mask"],
            batch["kind"],
        )
    values = metrics.compute()
    return [float(values[name]) for name in ("image_auroc", "pixel_auroc", "aupro")]


def regret(qualities: Qualities, procedure: str) -> float:
    """How much better the best expert of a set is than what a procedure chose."""
    best = max(mean(values) for name, values in qualities.items() if name not in PROCEDURES)
    return best - mean(qualities[procedure])


def leave_one_out(results: Mapping[str, Qualities]) -> dict[str, tuple[str, float]]:
    """For each set, the procedure of the least mean regret on the others, and its regret on the set."""
    chosen = {}
    for name, own in results.items():
        others = [qualities for other, qualities in results.items() if other != name]
        best = min(PROCEDURES, key=lambda procedure: mean(regret(x, procedure) for x in others))
        chosen[name] = (best, regret(own, best))
    return chosen


def table(results: Mapping[str, Qualities]) -> str:
    """A Markdown table of the qualities, and of the regret of the procedure fixed on the other sets."""
    names = list(dict.fromkeys(name for qualities in results.values() for name in qualities))
    chosen = leave_one_out(results)
    lines = [f"| | {' | '.join(results)} |", "|" + " --- |" * (len(results) + 1)]
    for name in names:
        cells = [_cell(qualities.get(name)) for qualities in results.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append(f"| fixed on the others | {' | '.join(name for name, _ in chosen.values())} |")
    lines.append(f"| regret | {' | '.join(f'{value:.3f}' for _, value in chosen.values())} |")
    return "\n".join(lines)


def _cell(values: list[float] | None) -> str:
    return "" if values is None else " / ".join(f"{value:.3f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder of the categories, in the layout of MVTec AD")
    parser.add_argument("--categories", nargs="*", default=[], help="their names")
    parser.add_argument("--backbone", help="frozen network to describe images with")
    parser.add_argument("--image-size", type=int, default=256, help="of the categories, in pixels")
    parser.add_argument("--output", type=Path, help="JSON file of the qualities")
    options = parser.parse_args()
    density = DensitySettings(backbone=options.backbone)
    results = {}
    for name, data in data_sets(options.root, options.categories, options.image_size):
        results[name] = judge(data, density)
        print(
            name,
            *(f"{key}: {_cell(values)}" for key, values in results[name].items()),
            sep="\n  ",
            flush=True,
        )
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
