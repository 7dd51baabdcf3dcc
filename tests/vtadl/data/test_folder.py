import pytest

from vtadl.data import Folder
from vtadl.errors import InputError


def module(root, **options):
    return Folder(str(root), **{"image_size": 32, "workers": 0} | options)


@pytest.fixture
def parts(tmp_path, save_image):
    """Makes a folder of normal images, and two folders of anomalous images with masks beside them."""
    for index in range(10):
        save_image(tmp_path / f"ok/line{index % 2}/{index}.png")
    for kind in ("dent", "hole"):
        for index in range(2):
            save_image(tmp_path / f"bad/{kind}/{index}.jpg", square=True)
            save_image(tmp_path / f"bad/{kind}/{index}_mask.png", square=True)
    return tmp_path


GLOBS = {"anomalous": "bad/**/*", "masks": "bad/**/*_mask.png"}


def test_globs_select_normal_images_anomalous_images_and_masks(parts):
    data = module(parts, **GLOBS, test_fraction=0.3)
    data.setup("fit")
    data.setup("test")
    train, val, test = (
        [r.path.relative_to(parts) for r in part.records]
        for part in (data.train_set, data.val_set, data.test_set)
    )
    assert (len(train), len(val), len(test)) == (5, 2, 3 + 4)
    assert len({*train, *val, *test}) == 14
    assert all(path.parts[0] == "ok" for path in [*train, *val])
    assert {r.path.parts[-3:]: r.mask and r.mask.parts[-3:] for r in data.test_set.records if r.label} == {
        ("bad", kind, f"{index}.jpg"): ("bad", kind, f"{index}_mask.png")
        for kind in ("dent", "hole")
        for index in range(2)
    }
    assert {r.kind for r in data.test_set.records} == {"good", "dent", "hole"}


def test_with_a_glob_for_test_images_all_others_are_for_training(parts):
    data = module(parts, normal="ok/line0/*", test_normal="ok/line1/*", **GLOBS)
    data.setup("fit")
    data.setup("test")
    assert len(data.train_set) + len(data.val_set) == 5
    assert {r.path.parent.name for r in data.test_set.records if not r.label} == {"line1"}


def test_without_anomalous_images_all_images_are_for_training(parts):
    data = module(parts, normal="ok/**/*")
    data.setup("fit")
    assert len(data.train_set) + len(data.val_set) == 10
    with pytest.raises(InputError, match=r"nothing to test with .*`anomalous`"):
        data.setup("test")


@pytest.mark.parametrize("glob", ["normal", "anomalous", "test_normal"])
def test_a_glob_that_matches_nothing_is_named(parts, glob):
    with pytest.raises(InputError, match=r"no image in .*nothing/\*"):
        module(parts, **GLOBS | {glob: "nothing/*"}).setup("fit" if glob == "normal" else "test")


def test_a_mask_without_an_image_is_named(parts, save_image):
    save_image(parts / "bad/hole/7_mask.png")
    with pytest.raises(InputError, match=r"7_mask.png has no image named hole/7"):
        module(parts, **GLOBS).setup("test")


@pytest.mark.parametrize("option", ["val_fraction", "test_fraction"])
@pytest.mark.parametrize("value", [-0.1, 0, 1, 20])
def test_a_fraction_that_leaves_one_part_empty_is_named(parts, option, value):
    with pytest.raises(InputError, match=f"{option} is {value}"):
        module(parts, **{option: value}).setup("fit")


def test_a_glob_that_does_not_start_below_the_root_is_named(parts):
    with pytest.raises(InputError, match="masks is /elsewhere"):
        module(parts, masks="/elsewhere/*").setup("fit")


def test_images_of_the_anomalous_glob_are_anomalous_whatever_the_name_of_their_folder(parts, save_image):
    save_image(parts / "bad/good/0.png")
    data = module(parts, **GLOBS)
    data.setup("test")
    assert [r.label for r in data.test_set.records if r.path.parent.name == "good"] == [1]


def test_an_invalid_glob_is_named(parts):
    with pytest.raises(InputError, match=r"normal is good/\*\*x, which is not a valid glob"):
        module(parts, normal="good/**x").setup("fit")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_to_hold_some_out_are_all_for_the_fit(tmp_path, save_image, count):
    for index in range(count):
        save_image(tmp_path / f"{index}.png")
    data = module(tmp_path, normal="*")
    data.setup("fit")
    assert data.val_set is data.train_set
    assert data.unvalidated == {tmp_path: count}
    assert sum(len(batch["image"]) for batch in data.normal_dataloader()) == count
