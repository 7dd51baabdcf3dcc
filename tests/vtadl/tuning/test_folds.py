"""Images are scored by dictionaries that have not seen them."""

import pytest
import torch

from vtadl.data import TextureDefects
from vtadl.density import DensitySettings, Dictionary
from vtadl.density.descriptors import make_extractors
from vtadl.images.tiles import cut
from vtadl.scoring.settings import ScoringSettings
from vtadl.scoring.statistics import top_k_mean
from vtadl.tuning.fitting import fit_dictionary
from vtadl.tuning.folds import assign_folds, score_out_of_fold
from vtadl.tuning.training_images import collect_images

SIZE = (32, 32)


def fitted(images, **given):
    density = DensitySettings(**given)
    dictionary = Dictionary(make_extractors(density, SIZE))
    return dictionary, fit_dictionary(dictionary, images, density, ScoringSettings())


@pytest.mark.parametrize(("count", "folds"), [(1, 1), (2, 2), (10, 10), (11, 5), (100, 5)])
def test_few_images_are_left_out_one_by_one_and_others_in_five_folds(count, folds):
    assigned = assign_folds([""] * count)
    sizes = assigned.bincount()
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1


def test_each_fold_has_images_of_each_category():
    names = ["nut"] * 40 + ["bolt"] * 10
    folds = assign_folds(names)
    for name, own in (("nut", 8), ("bolt", 2)):
        assert folds[[other == name for other in names]].bincount().tolist() == [own] * 5


@pytest.mark.parametrize("count", [4, 20])
def test_no_image_is_scored_by_a_dictionary_that_has_seen_it(count):
    images = torch.rand(count, 3, *SIZE)
    dictionary, fit = fitted(images, descriptor="energies", positions="near")
    scores = score_out_of_fold(dictionary, *fit, assign_folds([""] * count))
    assert dictionary(images).max() < 0.5 * scores.min()  # the nearest window of each is its own


def test_an_image_has_the_scores_of_the_experts_that_are_fitted_to_the_other_folds():
    images = torch.rand(12, 3, *SIZE)
    dictionary, fit = fitted(images)
    assert len(fit.choices) > 1
    folds = assign_folds([""] * 12)
    scores = score_out_of_fold(dictionary, *fit, folds)
    changed = [
        {name: x.clone().index_fill_(0, torch.tensor([own]), 9) for name, x in fit.described.normal.items()}
        for own in range(2)
    ]
    for own, normal in enumerate(changed):
        others = score_out_of_fold(dictionary, fit.choices, fit.described._replace(normal=normal), folds)
        same_fold = folds == folds[own]
        same_fold[own] = False
        assert torch.equal(others[same_fold], scores[same_fold])
        assert not torch.equal(others[folds != folds[own]], scores[folds != folds[own]])


def test_scores_of_held_out_crops_are_like_those_of_new_ones():
    data = TextureDefects("gravel", SIZE, train_count=100, val_count=20, test_count=100)
    data.setup("fit")
    data.setup("test")
    images = torch.stack([sample["image"] for sample in data.train_set])
    new = torch.stack([sample["image"] for sample in data.test_set if not sample["label"]])
    dictionary, fit = fitted(images, descriptor="energies")
    held_out = top_k_mean(score_out_of_fold(dictionary, *fit, assign_folds([""] * 100)).flatten(1), 10)
    seen, unseen = (top_k_mean(dictionary(x).flatten(1), 10) for x in (images, new))
    assert seen.mean() < unseen.mean() < held_out.mean() + 0.3 * held_out.std()


def test_the_tiles_of_an_image_stay_together():
    batches = [
        {"image": torch.rand(1, 3, *size), "label": torch.zeros(1), "category": [name]}
        for size, name in (((32, 80), "lying"), ((32, 32), "square"))
    ]
    images = collect_images(batches, (8, 8), SIZE)
    assert images.counts == [3, 1]
    assert images.sizes == [(32, 80), (32, 32)]
    assert images.categories == ["lying", "square"]
    first, second = images.split(images.tiles)
    assert torch.equal(first, cut(batches[0]["image"], SIZE))
    assert torch.equal(second, batches[1]["image"])


def test_images_are_collected_until_their_windows_are_enough():
    batches = [{"image": torch.rand(4, 3, *SIZE), "label": torch.zeros(4)} for _ in range(5)]
    assert len(collect_images(batches, (200, 400), SIZE).tiles) == 8  # five of 80,000 windows are wanted
