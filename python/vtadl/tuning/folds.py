"""Scores of the training images by dictionaries that have not seen them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vtadl.common.progress import progress
from vtadl.density import Dictionary
from vtadl.density.dictionary import AnyExpert
from vtadl.density.expert import Expert
from vtadl.tuning.selection import Choice, Described

_FOLDS = 5
_MAX_LEFT_OUT_ALONE = 10  # images; each of so few is a fold of its own
_SHARED_STEPS, _STEPS = 5, 10  # of EM, of mixtures of all positions and of others
_MAX_SHARED_WINDOWS = 60_000  # that mixtures of all positions are fitted to
_CHUNK = 16  # images that are scored at once


def assign_folds(categories: Sequence[str], seed: int = 0) -> Tensor:
    """The fold [N] of each of N images; the images of each category are dealt out evenly, in random order."""
    count = len(categories)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    order.sort(key=lambda index: categories[index])
    folds = torch.empty(count, dtype=torch.long)
    folds[order] = torch.arange(count) % (count if count <= _MAX_LEFT_OUT_ALONE else _FOLDS)
    return folds


def score_out_of_fold(
    dictionary: Dictionary, choices: Sequence[Choice], described: Described, folds: Tensor
) -> Tensor:
    """Scores the windows of each image by experts that were fitted to the images of the other folds.

    The settings and the weights of the experts stay, and so do their backgrounds and the principal components
    of the features, which hardly depend on a fifth of the images. Fewer images, and fewer windows and steps
    for a mixture of all positions, make the scores slightly larger than those of new images, so that
    thresholds by them err on the safe side.

    Args:
        dictionary: Fitted to all images.
        choices: The settings of its experts.
        described: The coefficients of the images.
        folds: The fold of each image [N]; if there is one fold, the experts are those of all images.

    Returns:
        The scores [N, rows, columns].
    """
    scores = torch.empty(len(folds), *dictionary.grid)
    names = dict.fromkeys(choice.settings.descriptor for choice in choices)
    for fold in progress(folds.unique().tolist(), "scoring held-out images"):
        held_out = (folds == fold).nonzero().flatten()
        kept = (folds[described.origins] != fold).nonzero().flatten()
        experts = _refit(dictionary, choices, described, kept if len(kept) else held_out)
        for chunk in held_out.split(_CHUNK):
            scores[chunk] = dictionary.combine(
                experts, {name: described.normal[name][chunk] for name in names}
            ).to(scores.device)
    return scores


def _refit(
    dictionary: Dictionary, choices: Sequence[Choice], described: Described, kept: Tensor
) -> list[AnyExpert]:
    """Fits experts with the settings of the dictionary's own to the images of these indices."""
    experts = []
    for choice, whole in zip(choices, dictionary.experts, strict=True):
        expert = dictionary.fit_expert(
            described.normal[choice.settings.descriptor][kept],
            choice.settings._replace(background="none"),
            steps=_SHARED_STEPS if choice.settings.positions == "shared" else _STEPS,
            max_windows=_MAX_SHARED_WINDOWS,
        )
        if isinstance(expert, Expert) and isinstance(whole, Expert):
            expert.take_background(whole)
        experts.append(expert)
    return experts
