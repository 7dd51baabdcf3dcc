"""Data sets of drawn images, with masks of where a flaw changes them."""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.morphology import closing, disk

from benchmarks.choice import photographs
from benchmarks.choice.drawing import Image, Random, expose
from benchmarks.choice.flaws import Flaw, good
from benchmarks.choice.images import DataSet, LabelledImages
from benchmarks.choice.parts import cells, connector, disc, label, pill, screws

_VISIBLE = 2.5 / 255  # change of a grey level
_MIN_AREA = 12  # pixels of a flaw


class Subject(NamedTuple):
    """What images show: a function that draws it, and the kinds of its flaws."""

    draw: Callable[[Random, Flaw], Image]
    flaws: tuple[str, ...]
    faintest: float = 0.0  # of the flaws, see Flaw


# The flaws leave the best expert an image AUROC of about .85 to .95; those of screws, which lie in all
# directions, are plain and leave it less.
SUBJECTS = {
    "disc": Subject(disc.draw, disc.FLAWS, 0.3),
    "pill": Subject(pill.draw, pill.FLAWS, 0.3),
    "connector": Subject(connector.draw, connector.FLAWS),
    "screws": Subject(screws.draw, screws.FLAWS, 0.9),
    "label": Subject(label.draw, label.FLAWS),
    "cells": Subject(cells.draw, cells.FLAWS, 0.5),
    "engine": Subject(photographs.scene(300, 400, zoom=1.3, shake=1.0), photographs.FLAWS, 0.4),
    "shelf": Subject(photographs.scene(110, 520, zoom=2.0, shake=3.0), photographs.FLAWS, 0.6),
}


def draw_set(name: str, seed: int, train: int = 120, normal: int = 40, anomalous: int = 60) -> DataSet:
    """Draws a data set; the numbers are those of images for training, and of test images."""
    subject = SUBJECTS[name]

    def picture(split: int, index: int, kind: str = "good") -> tuple[Image, NDArray[np.bool_]]:
        return draw_pair(subject, kind, [seed, crc32(name.encode()), split, index])[1:]

    trained = [picture(0, index)[0] for index in range(train)]
    kinds = ["good"] * normal + [subject.flaws[n % len(subject.flaws)] for n in range(anomalous)]
    tested = [picture(1, index, kind) for index, kind in enumerate(kinds)]
    test = LabelledImages(
        image=_tensor([image for image, _ in tested]),
        label=torch.tensor([int(kind != "good") for kind in kinds]),
        mask=torch.from_numpy(np.stack([mask for _, mask in tested])).float()[:, None],
        has_mask=torch.ones(len(kinds), dtype=torch.bool),
        kind=kinds,
    )
    return DataSet(_tensor(trained), test)


def draw_pair(subject: Subject, kind: str, seed: list[int]) -> tuple[Image, Image, NDArray[np.bool_]]:
    """The same image without a flaw and with one, and the mask [H, W] of where they differ visibly."""

    def photograph(flaw: Flaw) -> Image:
        rng = np.random.default_rng(seed)
        return expose(subject.draw(rng, flaw), rng)

    without = photograph(good())
    if kind == "good":
        return without, without, np.zeros(without.shape[:2], dtype=bool)
    for attempt in count():  # a flaw may lie where it cannot be seen
        image = photograph(Flaw(kind, np.random.default_rng([*seed, attempt]), subject.faintest))
        mask = np.abs(image - without).max(2) > _VISIBLE
        if mask.sum() >= _MIN_AREA:
            break
    return without, image, np.asarray(closing(mask, disk(1)), dtype=bool)


def _tensor(images: list[Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).float().movedim(3, 1).contiguous()
