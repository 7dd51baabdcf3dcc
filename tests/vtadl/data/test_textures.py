import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vtadl.data import TEXTURES, TextureDefects
from vtadl.data.textures import DEFECTS, STRIPS, crop_size, load_texture, random_crop


def module(**options):
    return TextureDefects(**{"image_size": 64, "train_count": 8, "val_count": 4, "test_count": 12} | options)


def images(dataset):
    return torch.stack([sample["image"] for sample in dataset])


@pytest.mark.parametrize("texture", TEXTURES)
def test_every_second_test_crop_has_a_defect_and_its_mask(texture):
    data = module(texture=texture, image_size=(48, 64))
    data.setup("test")
    assert [int(sample["label"]) for sample in data.test_set] == [0, 1] * 6
    for sample in data.test_set:
        assert sample["image"].shape == (3, 48, 64)
        assert sample["mask"].any() == bool(sample["label"])
        assert sample["mask"].mean() < 0.5


def test_crops_depend_on_the_seed_alone():
    def drawn(seed):
        data = module(seed=seed)
        data.setup("fit")
        data.setup("test")
        return torch.cat([images(part) for part in (data.train_set, data.val_set, data.test_set)])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_the_parts_of_the_splits_do_not_overlap():
    columns = [set(range(*strip)) for strip in STRIPS.values()]
    assert len(set.union(*columns)) == sum(map(len, columns)) == 512


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_normal_crop_occurs_only_in_its_own_part(split):
    data = module(texture="gravel")
    data.setup("fit")
    data.setup("test")
    crop = images({"train": data.train_set, "val": data.val_set, "test": data.test_set}[split])[0, 0].numpy()
    photograph = load_texture("gravel")
    windows = np.lib.stride_tricks.sliding_window_view(photograph[:, : 512 - 56], (64, 8))
    columns = np.nonzero((windows == crop[:, :8]).all((2, 3)))[1]
    assert len(columns) == 1
    assert STRIPS[split].start <= columns[0] <= STRIPS[split].stop - 64


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("seed", range(10))
def test_a_mask_covers_exactly_what_was_painted(kind, seed):
    rng = np.random.default_rng(seed)
    image, donor = (random_crop(load_texture(name), (64, 64), rng) for name in ("brick", "gravel"))
    painted, mask = DEFECTS[kind](image, donor, rng)
    assert np.array_equal(painted[~mask], image[~mask])
    assert (painted[mask] != image[mask]).mean() > 0.9  # the new colour of a pixel may equal the old one
    assert mask.any()


@pytest.mark.parametrize(
    ("size", "crop"),
    [((64, 64), (64, 64)), ((512, 128), (512, 128)), ((256, 256), (128, 128)), ((200, 400), (64, 128))],
    ids=str,
)
def test_a_crop_fits_into_its_part_and_has_the_shape_of_the_image(size, crop):
    assert crop_size(size) == crop


def test_images_larger_than_a_part_are_enlarged_crops():
    small, large = module(image_size=(64, 128)), module(image_size=(128, 256))
    for data in (small, large):
        data.setup("test")
    for crop, sample in zip(small.test_set, large.test_set, strict=True):
        expected = F.interpolate(crop["image"][None], (128, 256), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(sample["image"], expected)
        enlarged = F.interpolate(crop["mask"][None], (128, 256), mode="nearest-exact")[0]
        assert torch.equal(sample["mask"], enlarged)
        assert sample["label"] == crop["label"]
        assert (sample["mask"] * (1 - sample["mask"])).sum() == 0
