import numpy as np
import pytest
import torch
from PIL import Image

from vtadl.data import ImageFolder, MVTecAD
from vtadl.data.images import read_image
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


def test_validation_images_are_training_normals_held_out(category):
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


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_and_colour_images_of_each_format_become_rgb(tmp_path, save_image, suffix, mode):
    image = read_image(save_image(tmp_path / f"image.{suffix}", mode=mode), (20, 24))
    assert image.shape == (3, 20, 24)
    assert 0.3 < image.min() <= image.max() < 0.5
    if mode == "L":
        assert torch.equal(image[0], image[1])


def test_sixteen_bit_images_keep_their_brightness(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((16, 16), 32768, dtype=np.uint16)).save(path)
    assert read_image(path, (16, 16)).mean().item() == pytest.approx(0.5, abs=0.01)


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
    with pytest.raises(InputError, match=r"hole/099_mask.png has no image named 099"):
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


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.6])
def test_a_corrupt_or_truncated_image_is_named(tmp_path, save_image, suffix, kept):
    path = save_image(tmp_path / f"broken.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=f"cannot read image .*broken.{suffix}"):
        read_image(path, (16, 16))


def test_a_plain_folder_is_read_with_all_below_it(category):
    images = ImageFolder(category / "test", 32)
    assert [sample["name"] for sample in images][::4] == ["good/000.png", "hole/000.jpg"]
    with pytest.raises(InputError, match="no png"):
        ImageFolder(category / "nowhere", 32)


def test_the_real_bottle_is_read_whole(real_data):
    data = module(real_data / "mvtec_ad_512/bottle")
    data.setup("fit")
    data.setup("test")
    assert len(data.train_set) + len(data.val_set) == 209
    assert sum(record.mask is not None for record in data.test_set.records) == 63
