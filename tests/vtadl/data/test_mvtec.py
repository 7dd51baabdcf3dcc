import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from vtadl.data import BTAD, MVTecAD
from vtadl.data.files import ImageFiles
from vtadl.data.records import Record
from vtadl.errors import InputError


def module(root, **options):
    return MVTecAD(str(root), **{"image_size": 32, "workers": 0} | options)


def test_test_images_are_sorted_and_paired_with_their_masks(category):
    data = module(category)
    data.setup("test")
    records = data.test_set.records
    assert [record.path for record in records] == sorted(record.path for record in records)
    assert [record.label for record in records] == [0] * 4 + [1] * 4
    assert all(record.mask.stem == f"{record.path.stem}_mask" for record in records if record.label)


def test_a_sample_has_its_image_label_and_mask(category):
    data = module(category, image_size=(40, 48))
    data.setup("test")
    sample = data.test_set[7]
    assert sample["image"].shape == (3, 40, 48)
    assert sample["label"] == 1
    assert sample["has_mask"]
    expected = torch.zeros(1, 40, 48)
    expected[:, 8:24, 8:24] = 1
    assert torch.equal(sample["mask"], expected)


def test_masks_may_be_missing(category):
    for path in (category / "ground_truth/hole").iterdir():
        path.unlink()
    data = module(category)
    data.setup("test")
    known = [bool(sample["has_mask"]) for sample in data.test_set]
    assert known == [True] * 4 + [False] * 4


def test_equal_names_in_two_kinds_keep_their_own_masks(category, save_image):
    save_image(category / "test/crack/000.bmp")
    data = module(category)
    data.setup("test")
    masks = {
        record.path.parent.name: record.mask for record in data.test_set.records if "000" in record.path.name
    }
    assert masks["crack"] is None
    assert masks["hole"].parent.name == "hole"


def test_validation_images_are_held_out_of_the_normal_images(category):
    data = module(category, val_fraction=0.25)
    data.setup("fit")
    train, val = ({record.path for record in part.records} for part in (data.train_set, data.val_set))
    assert len(val) == 3
    assert not train & val
    assert train | val == set((category / "train/good").iterdir())


def test_the_split_and_the_order_depend_on_the_seed_alone(category):
    def names(seed):
        data = module(category, seed=seed, batch_size=3)
        data.setup("fit")
        return [name for batch in data.train_dataloader() for name in batch["name"]]

    assert names(1) == names(1)
    assert names(1) != names(2)


def test_a_missing_folder_is_named_with_the_layout(tmp_path):
    with pytest.raises(InputError, match=r"nowhere; expected train/good"):
        module(tmp_path / "nowhere").setup("fit")


@pytest.mark.parametrize(("stage", "folder"), [("fit", "train/good"), ("test", "test")])
def test_a_folder_without_images_is_named_with_the_layout(tmp_path, stage, folder):
    with pytest.raises(InputError, match=f"{folder}; expected train/good"):
        module(tmp_path).setup(stage)


def test_an_empty_kind_is_named(category):
    (category / "test/dent").mkdir()
    with pytest.raises(InputError, match=r"test/dent"):
        module(category).setup("test")


def test_a_mask_without_an_image_is_named(category, save_image):
    save_image(category / "ground_truth/hole/099_mask.png")
    with pytest.raises(InputError, match=r"hole/099_mask.png has no image named hole/099"):
        module(category).setup("test")


def test_a_mask_of_two_images_is_named(category, save_image):
    save_image(category / "test/hole/001.png")
    with pytest.raises(InputError, match=r"001_mask.png has several images"):
        module(category).setup("test")


def test_a_mask_of_another_size_than_its_image_is_named(category, save_image):
    save_image(category / "ground_truth/hole/001_mask.png", size=(20, 20))
    data = module(category)
    data.setup("test")
    with pytest.raises(InputError, match=r"001_mask.png is \(20, 20\)"):
        data.test_set[5]


def test_the_published_bottle_category_is_read_completely(real_data):
    data = module(real_data / "mvtec_ad_512/bottle")
    data.setup("fit")
    data.setup("test")
    assert len(data.train_set) + len(data.val_set) == 209
    assert sum(record.mask is not None for record in data.test_set.records) == 63


@pytest.fixture
def product(tmp_path, save_image):
    """Makes a folder in the layout of BTAD, with mixed suffixes and the same names in test/ok and test/ko."""
    root = tmp_path / "btad" / "03"
    for index in range(5):
        save_image(root / f"train/ok/{index:04d}.bmp")
    for index in range(3):
        save_image(root / f"test/ok/{index:04d}.bmp")
        save_image(root / f"test/ko/{index:04d}.{('bmp', 'png', 'png')[index]}", square=True)
    for index in range(2):
        save_image(root / f"ground_truth/ko/{index:04d}.{('bmp', 'bmp')[index]}", square=True)
    return root


def test_masks_of_btad_belong_to_paths_whatever_their_suffix(product):
    data = BTAD(str(product.parent), category="03", image_size=32, workers=0)
    data.setup("fit")
    data.setup("test")
    assert len(data.train_set) + len(data.val_set) == 5
    masks = {(r.kind, r.path.name): r.mask and r.mask.name for r in data.test_set.records}
    assert masks == {
        ("good", "0000.bmp"): None,
        ("good", "0001.bmp"): None,
        ("good", "0002.bmp"): None,
        ("ko", "0000.bmp"): "0000.bmp",
        ("ko", "0001.png"): "0001.bmp",
        ("ko", "0002.png"): None,
    }
    assert [r.label for r in data.test_set.records] == [1, 1, 1, 0, 0, 0]


def test_an_image_with_two_masks_is_named(product, save_image):
    save_image(product / "ground_truth/ko/0001.png", square=True)
    with pytest.raises(InputError, match=r"ko/0001.png has two masks"):
        BTAD(str(product)).setup("test")


@pytest.mark.parametrize(("module_", "licence"), [(MVTecAD, "CC BY-NC-SA 4.0"), (BTAD, "CC BY-SA 4.0")])
def test_source_and_licence_of_missing_published_data_are_named(tmp_path, module_, licence):
    with pytest.raises(InputError, match=f"https://.*{licence}"):
        module_(str(tmp_path), category="01").setup("fit")


@pytest.mark.parametrize("resize_mode", ["stretch", "crop"])
def test_cached_images_equal_those_read_from_files(category, resize_mode):
    read, kept = (module(category, resize_mode=resize_mode, cache_gb=gigabytes) for gigabytes in (0, 2))
    read.setup("fit")
    kept.setup("fit")
    expected = [sample["image"] for sample in read.train_set]
    for path in (category / "train/good").iterdir():
        path.unlink()
    assert all(torch.equal(image, s["image"]) for image, s in zip(expected, kept.train_set, strict=True))


@pytest.mark.parametrize(("cache_gb", "workers"), [(0, 2), (2, 0)])
def test_images_in_memory_are_not_read_by_other_processes(category, cache_gb, workers):
    data = module(category, cache_gb=cache_gb, workers=2)
    data.setup("fit")
    assert data.train_dataloader().num_workers == data.val_dataloader().num_workers == workers


def test_the_cache_holds_no_more_images_than_fit(category):
    images = [Record(path) for path in sorted((category / "train/good").iterdir())]
    bytes_each = 4 * 3 * 32 * 32  # three channels of floats
    dataset = ImageFiles(images, (32, 32), cache_bytes=2.5 * bytes_each)
    assert len(dataset.cached) == 2 < len(dataset)
    plain = ImageFiles(images, (32, 32))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(dataset, plain, strict=True))


@pytest.fixture
def categories(tmp_path, make_parts, save_image):
    """Returns the folder of two categories; `save_image` writes images that differ from theirs."""
    save_image.rng = np.random.default_rng(1)
    for name in ("bolt", "nut"):
        make_parts(tmp_path / "parts" / name)
    for path in (tmp_path / "parts/nut").glob("*/good/*"):
        ImageOps.invert(Image.open(path)).save(path)
    return tmp_path / "parts"


def several(root, **options):
    return module(root, category=["bolt", "nut"], **options)


def test_several_categories_are_split_each_like_a_single_one(categories, save_image):
    for index in range(12, 30):
        save_image(categories / f"nut/train/good/{index:03d}.png")
    data = several(categories, val_fraction=0.25)
    data.setup("fit")
    for name, count in (("bolt", 3), ("nut", 8)):
        alone = module(categories, category=name, val_fraction=0.25)
        alone.setup("fit")
        assert len(alone.val_set) == count
        for part in ("train_set", "val_set"):
            own = [record for record in getattr(data, part).records if record.category == name]
            assert own == getattr(alone, part).records


def test_validation_folders_hold_for_their_own_category(categories, save_image):
    for index in range(2):
        save_image(categories / f"nut/validation/good/{index}.png")
    data = several(categories)
    data.setup("fit")
    held_out = [record.path.parts[-4:-1] for record in data.val_set.records]
    assert held_out == [("bolt", "train", "good")] * 2 + [("nut", "validation", "good")] * 2


def test_each_test_image_knows_its_category(categories):
    data = several(categories)
    data.setup("test")
    assert [sample["category"] for sample in data.test_set] == ["bolt"] * 8 + ["nut"] * 8
    assert all(record.path.is_relative_to(categories / record.category) for record in data.test_set.records)
    assert [record.label for record in data.test_set.records] == [*[0] * 4, *[1] * 4] * 2


def test_a_copy_in_another_category_is_not_used(tmp_path, make_parts):
    shutil.copytree(make_parts(tmp_path / "bolt"), tmp_path / "nut")
    with pytest.raises(InputError, match=r"nut/train/good has no image to train with that is not a copy"):
        several(tmp_path).setup("fit")


@pytest.mark.parametrize("category", [[], ["bolt", "bolt"], ["bolt", ""]])
def test_categories_are_different_names(tmp_path, category):
    with pytest.raises(InputError, match="it has to be one name, or a list of different names"):
        module(tmp_path, category=category)


def test_a_list_of_one_category_is_that_category(categories):
    data = module(categories, category=["nut"])
    assert (data.root, data.categories) == (categories / "nut", ("nut",))
    assert module(categories).categories == ("",)


def test_a_missing_category_is_named(categories):
    with pytest.raises(InputError, match=r"no image in .*/round/train/good"):
        module(categories, category=["bolt", "round"]).setup("fit")
