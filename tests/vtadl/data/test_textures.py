import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vtadl.data import TEXTURES, TextureDefects
from vtadl.data.textures import DEFECTS, SPLITS, crop_size, load_texture, random_cells, random_crop
from vtadl.errors import InputError


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


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (48, 96), (256, 256)], ids=str)
def test_no_pixel_of_the_photograph_is_in_two_crops(size):
    data = TextureDefects(image_size=size)
    seen = np.zeros((512, 512), int)
    numbers = {split: len(data.cells(split)) for split in SPLITS}
    for split in SPLITS:
        for cell in data.cells(split):
            assert cell.of(seen).shape == cell.size == data.crop  # it lies within the photograph
            seen[cell.top : cell.top + cell.size[0], cell.left : cell.left + cell.size[1]] += 1
    assert numbers == {"train": 36, "val": 4, "test": 24}
    assert seen.max() == 1
    assert seen.mean() > 0.7


def test_chance_decides_which_cells_are_tested():
    places = {(cell.top, cell.left) for seed in range(100) for cell in module(seed=seed).cells("test")}
    every = {(cell.top, cell.left) for cell in random_cells((64, 64), np.random.default_rng(0))}
    assert places == every
    means = [np.mean([cell.left for cell in module(seed=seed).cells("train")]) for seed in range(20)]
    assert np.mean(means) == pytest.approx(224, abs=60)  # and no side is preferred


@pytest.mark.parametrize("split", SPLITS)
def test_a_normal_image_is_a_cell_of_its_own_split(split):
    data = module(texture="gravel")
    data.setup("fit")
    data.setup("test")
    samples = {"train": data.train_set, "val": data.val_set, "test": data.test_set}[split]
    photograph = load_texture("gravel")
    expected = [cell.of(photograph) for cell in data.cells(split)]
    normal = [sample["image"][0].numpy() for sample in samples if not sample["label"]]
    assert len(normal) == len(expected)
    assert all(map(np.array_equal, normal, expected))


def test_a_defect_changes_the_image_before_it_within_the_mask_alone():
    data = module(test_count=13)
    data.setup("test")
    for normal, defective in zip(data.test_set.samples[::2], data.test_set.samples[1::2], strict=False):
        mask = defective["mask"].expand(3, -1, -1) > 0
        assert torch.equal(normal["image"][~mask], defective["image"][~mask])
        assert not torch.equal(normal["image"], defective["image"])
    assert len(data.test_set) == 13


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
    ("size", "count", "crop"),
    [
        ((64, 64), 18, (64, 64)),
        ((64, 64), 64, (64, 64)),
        ((64, 64), 65, (56, 56)),
        ((512, 128), 4, (512, 128)),
        ((256, 256), 16, (128, 128)),
        ((200, 400), 32, (64, 128)),
        ((32, 32), 262144, (1, 1)),
    ],
    ids=str,
)
def test_a_crop_is_as_large_as_their_number_allows_and_has_the_shape_of_the_image(size, count, crop):
    assert crop_size(size, count) == crop


def test_too_many_crops_are_refused():
    with pytest.raises(InputError, match="a photograph of 512x512 pixels has no room for 262146 crops"):
        module(train_count=262136)


def test_images_larger_than_a_cell_are_enlarged_crops():
    small, large = (
        TextureDefects(image_size=size, train_count=20, val_count=2, test_count=20)
        for size in ((64, 128), (128, 256))
    )
    for data in (small, large):
        data.setup("test")
        assert data.crop == (64, 128)
    for crop, sample in zip(small.test_set, large.test_set, strict=True):
        expected = F.interpolate(crop["image"][None], (128, 256), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(sample["image"], expected)
        enlarged = F.interpolate(crop["mask"][None], (128, 256), mode="nearest-exact")[0]
        assert torch.equal(sample["mask"], enlarged)
        assert sample["label"] == crop["label"]
        assert (sample["mask"] * (1 - sample["mask"])).sum() == 0
