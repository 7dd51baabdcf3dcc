import gzip
import struct

import numpy as np
import pytest

from vtadl.data import MNISTDigit
from vtadl.data.manifest import compare
from vtadl.data.mnist import read_idx
from vtadl.errors import InputError


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def root(tmp_path):
    """Writes ten images of each digit for training and five for testing; the digits alternate."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 100), ("t10k", 50)):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_an_idx_file_is_read_compressed_or_not(tmp_path, name):
    array = np.arange(24).reshape(2, 3, 4)
    write_idx(tmp_path / name, array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_training_has_one_digit_and_testing_has_all(root):
    data = MNISTDigit(str(root), digit=3, val_fraction=0.2)
    data.setup("fit")
    data.setup("test")
    assert (len(data.train_set), len(data.val_set), len(data.test_set)) == (8, 2, 50)
    labels = [int(data.test_set[index]["label"]) for index in range(50)]
    assert labels == [int(index % 10 != 3) for index in range(50)]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 28, 28)
    assert batch["image"].max() <= 1


def test_validation_images_are_not_training_images(root):
    data = MNISTDigit(str(root), digit=1)
    data.setup("fit")
    held_out = {tuple(image.flatten().tolist()) for image in data.val_set.images}
    assert held_out.isdisjoint(tuple(image.flatten().tolist()) for image in data.train_set.images)


def test_changed_images_and_another_split_are_found_by_content(root):
    def manifest(seed=0):
        return MNISTDigit(str(root), digit=3, val_fraction=0.2, seed=seed).manifest()

    before = manifest()
    assert [entry.part for entry in before.entries].count("validation") == 2
    assert not any(compare(before, manifest()))
    assert compare(before, manifest(seed=1)).reassigned
    write_idx(root / "train-images-idx3-ubyte.gz", np.random.default_rng(1).integers(0, 256, (100, 28, 28)))
    assert len(compare(before, manifest()).changed) == 10


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x09\x01\0\0\0\x01a", b"\0\0\x08\x01\0\0\0\x05abc"]
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(InputError, match="labels"):
        read_idx(tmp_path / "labels")


def test_a_truncated_compressed_file_is_named(root):
    path = root / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="t10k-images"):
        MNISTDigit(str(root)).setup("test")


def test_a_missing_file_is_named_with_the_layout_the_source_and_the_licence(tmp_path):
    with pytest.raises(InputError, match=r"train-images.*; expected .*https://.*CC BY-SA"):
        MNISTDigit(str(tmp_path)).setup("fit")


@pytest.mark.parametrize(("options", "named"), [({"digit": 10}, "digit"), ({"image_size": 32}, "28x28")])
def test_a_digit_or_size_that_mnist_does_not_have_is_named(options, named):
    with pytest.raises(InputError, match=named):
        MNISTDigit("anywhere", **options)


def test_the_real_files_hold_the_known_counts(real_data):
    data = MNISTDigit(str(real_data / "mnist"), digit=8)
    data.setup("fit")
    data.setup("test")
    assert len(data.train_set) + len(data.val_set) == 5851
    assert int((data.test_set.digits == 8).sum()) == 974


def test_unequal_numbers_of_images_and_labels_are_refused(root):
    write_idx(root / "train-labels-idx1-ubyte", np.arange(99) % 10)
    with pytest.raises(InputError, match=r"the numbers of train images and of their labels in .* differ"):
        MNISTDigit(str(root)).setup("fit")
