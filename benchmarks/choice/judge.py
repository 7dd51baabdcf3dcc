"""What experts, and procedures that choose among them, reach in the test of a data set."""

import torch
from torch import Tensor

from benchmarks.choice.images import DataSet, LabelledImages
from benchmarks.choice.procedures import PROCEDURES
from benchmarks.choice.regret import Qualities
from benchmarks.detection.method import anomaly_maps
from vtadl.density import DensitySettings, Dictionary
from vtadl.density.descriptors import make_extractors
from vtadl.density.dictionary import Member
from vtadl.metrics import DetectionMetrics
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import top_k_mean
from vtadl.tuning.candidates import candidate_experts
from vtadl.tuning.fitting import describe, fit_member
from vtadl.tuning.selection import Choice, Comparison, standardise
from vtadl.tuning.symmetry import add_turned

_SCORING = ScoringSettings()
_BATCH = 16  # test images


def judge(data: DataSet, density: DensitySettings, seed: int) -> Qualities:
    """The quality in the test of each expert, and of what each procedure chooses."""
    size = (data.train.shape[-2], data.train.shape[-1])
    dictionary = Dictionary(make_extractors(density, size))
    normal = add_turned(data.train, density.symmetry)
    candidates = candidate_experts(density, dictionary.descriptors, len(normal.images))
    described = describe(dictionary, normal, candidates)
    comparison = Comparison(dictionary, data.train, described, _SCORING, seed)
    compared, moments = standardise([comparison.scores(settings) for settings in candidates])
    members = [
        fit_member(dictionary, Choice(settings, 1.0, *own), described)
        for settings, own in zip(candidates, moments, strict=True)
    ]
    scores = torch.cat([_scores(dictionary, members, x) for x in data.test.image.split(_BATCH)], dim=1)
    names = [f"{expert.descriptor}, {expert.positions}" for expert in candidates]
    qualities = {name: quality(own, data.test) for name, own in zip(names, scores, strict=True)}
    for name, choose in PROCEDURES.items():
        weights = choose(compared, comparison.separation).view(-1, 1, 1, 1)
        qualities[name] = quality((weights * scores).sum(0), data.test)
    return qualities


@torch.no_grad()
def _scores(dictionary: Dictionary, members: list[Member], images: Tensor) -> Tensor:
    """Scores [E, B, rows, columns] of images in standard deviations of held-out normal windows."""
    names = {member.expert.descriptor for member in members}
    coefficients = {name: dictionary.pca_coefficients(images, name) for name in names}
    scores = []
    for expert, _, mean, deviation in members:
        own = dictionary.on_grid(expert.scores(coefficients[expert.descriptor]), expert.descriptor)
        scores.append((own - mean) / deviation)
    return torch.stack(scores)


def quality(scores: Tensor, test: LabelledImages) -> list[float]:
    """Image AUROC, and pixel AUROC and AUPRO if there are masks, of scores [M, rows, columns]."""
    metrics = DetectionMetrics()
    for start in range(0, len(scores), _BATCH):
        part = slice(start, start + _BATCH)
        metrics.update(
            top_k_mean(scores[part].flatten(1), _SCORING.top_patches),
            test.label[part],
            anomaly_maps(scores[part], test.image.shape[-2:]),
            test.mask[part],
            test.has_mask[part],
            test.kind[part],
        )
    values = metrics.compute()
    return [float(values[name]) for name in ("image_auroc", "pixel_auroc", "aupro") if name in values]
