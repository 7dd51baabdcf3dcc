"""The score of an image does not depend on the type in which it is given."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vtadl.cli.export import Program
from vtadl.data import ImageFiles
from vtadl.data.images import open_image, read_pixels, upright_size
from vtadl.data.inputs import prepare_image
from vtadl.data.mask_files import read_mask
from vtadl.data.records import Record
from vtadl.detector import Detector
from vtadl.errors import InputError
from vtadl.images.pixels import crop_slices, resize, resize_pixels, resized_size, to_tensor

quick = settings(max_examples=25, deadline=None, derandomize=True)
RESIZE_MODES = ("stretch", "crop", "tiles")
sides = st.sampled_from([1, 5, 16, 31, 32, 33, 47, 64, 90])
sizes = st.tuples(sides, sides).filter(lambda size: max(size) <= 8 * min(size))
seeds = st.integers(0, 2**16)


@pytest.fixture(scope="module")
def detector(trained):
    return Detector.load(trained, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("forms")


def score(detector, image, mode="stretch"):
    detector.module.resize_mode = mode
    try:
        return detector.predict(image).score
    finally:
        detector.module.resize_mode = "stretch"


def saved(folder, image, suffix, **options):
    """Saves an image to a file with a unique name."""
    path = folder / f"{len(list(folder.iterdir()))}.{suffix}"
    image.save(path, **options)
    return path


def colour(size, seed):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def with_alpha(pixels):
    return np.concatenate([pixels, np.roll(pixels[..., :1], 1)], axis=2)


def planes(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).movedim(-1, 0)


COLOUR_FORMS = {
    **{
        suffix: lambda x, folder, suffix=suffix: saved(folder, Image.fromarray(x), suffix)
        for suffix in ("png", "bmp", "tif", "tga", "ppm")
    },
    "webp": lambda x, folder: saved(folder, Image.fromarray(x), "webp", lossless=True),
    "png with alpha": lambda x, folder: saved(folder, Image.fromarray(with_alpha(x)), "png"),
    "name": lambda x, folder: str(saved(folder, Image.fromarray(x), "png")),
    "opened": lambda x, folder: Image.open(saved(folder, Image.fromarray(x), "png")),
    "PIL": lambda x, folder: Image.fromarray(x),
    "PIL with alpha": lambda x, folder: Image.fromarray(with_alpha(x)),
    "bytes": lambda x, folder: x,
    "bytes with alpha": lambda x, folder: with_alpha(x),
    "columns first": lambda x, folder: np.asfortranarray(x),
    "turned around twice": lambda x, folder: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "blue first": lambda x, folder: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "read-only": lambda x, folder: np.broadcast_to(x, x.shape),
    "16 bits": lambda x, folder: x * np.uint16(257),
    "16 bits, big end first": lambda x, folder: (x * np.uint16(257)).astype(">u2"),
    "32 bits": lambda x, folder: x * np.uint32(0x01010101),
    "64 bits": lambda x, folder: x * np.uint64(0x0101010101010101),
    "floats": lambda x, folder: x / np.float32(255),
    "doubles": lambda x, folder: x / 255,
    "doubles, big end first": lambda x, folder: (x / 255).astype(">f8"),
    "tensor": lambda x, folder: planes(x),
    "tensor of 16 bits": lambda x, folder: planes(x * np.uint16(257)),
    "tensor of floats": lambda x, folder: planes(x) / 255,
    "tensor with gradients": lambda x, folder: (planes(x).double() / 255).requires_grad_(),
}

GREY_FORMS = {
    "L": lambda x, folder: saved(folder, Image.fromarray(x), "png"),
    "jpeg2000": lambda x, folder: saved(folder, Image.fromarray(x), "jp2"),
    "LA": lambda x, folder: Image.merge("LA", [Image.fromarray(x), Image.fromarray(np.roll(x, 1))]),
    "RGB": lambda x, folder: Image.fromarray(x).convert("RGB"),
    "palette": lambda x, folder: saved(folder, Image.fromarray(x).convert("P"), "png"),
    "CMYK": lambda x, folder: Image.merge(
        "CMYK", [Image.fromarray(255 - x)] * 3 + [Image.new("L", x.shape[::-1])]
    ),
    "16 bits": lambda x, folder: saved(folder, Image.fromarray(x * np.uint16(257)), "png"),
    "16 bits in a TIFF": lambda x, folder: saved(folder, Image.fromarray(x * np.uint16(257)), "tif"),
    "I": lambda x, folder: Image.fromarray(x.astype(np.int32) * 257),
    "F": lambda x, folder: Image.fromarray(x / np.float32(255)),
    "floats in a TIFF": lambda x, folder: saved(folder, Image.fromarray(x / np.float32(255)), "tif"),
    "flat": lambda x, folder: x,
    "one channel": lambda x, folder: x[..., None],
    "three channels": lambda x, folder: np.repeat(x[..., None], 3, axis=2),
    "tensor": lambda x, folder: torch.from_numpy(x)[None],
    "a view of one channel": lambda x, folder: np.repeat(x[..., None], 3, axis=2)[..., 1],
}


@settings(quick, max_examples=60)
@given(
    size=sizes,
    seed=seeds,
    mode=st.sampled_from(RESIZE_MODES),
    form=st.sampled_from(list(COLOUR_FORMS)),
)
def test_every_type_of_a_colour_image_has_the_same_score(detector, folder, size, seed, mode, form):
    pixels = colour(size, seed)
    expected = score(detector, pixels, mode)
    assert score(detector, COLOUR_FORMS[form](pixels, folder), mode) == pytest.approx(expected, rel=2e-5)


@settings(quick, max_examples=60)
@given(size=sizes, seed=seeds, mode=st.sampled_from(RESIZE_MODES), form=st.sampled_from(list(GREY_FORMS)))
def test_every_type_of_a_grey_image_has_the_same_score(detector, folder, size, seed, mode, form):
    pixels = colour(size, seed)[..., 0]
    expected = score(detector, np.repeat(pixels[..., None], 3, axis=2), mode)
    assert score(detector, GREY_FORMS[form](pixels, folder), mode) == pytest.approx(expected, rel=2e-5)


@quick
@given(size=sizes, seed=seeds, mode=st.sampled_from(RESIZE_MODES))
def test_black_and_white_images_have_the_score_of_bools(detector, folder, size, seed, mode):
    bools = colour(size, seed)[..., 0] > 127
    expected = score(detector, bools * np.uint8(255), mode)
    for form in (
        bools,
        torch.from_numpy(bools)[None],
        Image.fromarray(bools),
        saved(folder, Image.fromarray(bools), "png"),
    ):
        assert score(detector, form, mode) == pytest.approx(expected, rel=2e-5)


@quick
@given(
    data=st.data(),
    size=sizes,
    kind=st.sampled_from(["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]),
)
def test_white_is_the_largest_value_of_an_integer_type(detector, data, size, kind):
    white = np.iinfo(kind).max
    rng = np.random.default_rng(data.draw(seeds))
    values = rng.integers(0, white, (*size, 3), dtype=kind, endpoint=True)
    values.flat[0] = white
    expected = score(detector, values / white)
    for form in (values, values.astype(np.dtype(kind).newbyteorder(">")), planes(values)):
        assert score(detector, form) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("kind", ["int16", "int32", "int64", "uint32", "uint64"])
def test_bytes_in_a_wider_type_are_refused(detector, kind):
    pixels = colour((8, 8), 0).astype(kind)
    for form in (pixels, planes(pixels)):
        with pytest.raises(InputError, match=rf"in an image of (torch\.)?{kind}, .* is 2\d\d: convert it"):
            detector.predict(form)


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64", "float32"])
def test_negative_numbers_are_refused(detector, kind):
    with pytest.raises(InputError, match=r"must not be negative|must lie in \[0, 1\]"):
        detector.predict(np.array([[-1, 1]], dtype=kind))


@quick
@given(
    size=st.sampled_from([(20, 30), (70, 50), (32, 32)]),
    seed=seeds,
    orientation=st.integers(1, 8),
    suffix=st.sampled_from(["png", "webp", "tif", "jpg"]),
    mode=st.sampled_from(RESIZE_MODES),
)
def test_the_exif_orientation_of_files_and_opened_images_is_applied(
    detector, folder, size, seed, orientation, suffix, mode
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(folder, Image.fromarray(colour(size, seed)), suffix, exif=exif, **options)
    with Image.open(path) as image:
        stored = (
            np.asarray(image) if suffix != "tif" else colour(size, seed)
        )  # Pillow applies the orientation of TIFF itself
    turn = [
        *(lambda x: x, lambda x: x[:, ::-1], lambda x: x[::-1, ::-1], lambda x: x[::-1]),
        *(lambda x: x.swapaxes(0, 1), lambda x: np.rot90(x, -1)),
        *(lambda x: x[::-1, ::-1].swapaxes(0, 1), np.rot90),
    ][orientation - 1]
    upright = np.ascontiguousarray(turn(stored))
    assert np.array_equal(np.asarray(open_image(path)), upright)
    assert upright_size(path) == upright.shape[1::-1]
    expected = score(detector, upright, mode)
    for form in (path, Image.open(path), open_image(path), Image.open(io.BytesIO(path.read_bytes()))):
        assert score(detector, form, mode) == pytest.approx(expected, rel=2e-5)


@quick
@given(size=sizes, seed=seeds, mode=st.sampled_from(RESIZE_MODES), count=st.integers(1, 3))
def test_a_program_to_export_decides_like_python(detector, size, seed, mode, count):
    images = np.stack([colour(size, seed + index) for index in range(count)])
    detector.module.resize_mode = mode
    try:
        with torch.inference_mode():
            decisions = Program(detector.module)(torch.from_numpy(images))
        detections = detector.predict(images)
    finally:
        detector.module.resize_mode = "stretch"
    for name, found in decisions.items():
        expected = np.stack([getattr(detection, name) for detection in detections])
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-3, err_msg=name)


@quick
@given(
    size=sizes,
    seed=seeds,
    mode=st.sampled_from(RESIZE_MODES),
    grey=st.booleans(),
    cache=st.sampled_from([0, 1e9]),
)
def test_samples_equal_the_input_of_the_detector(folder, size, seed, mode, grey, cache):
    pixels = colour(size, seed)[..., 0] if grey else colour(size, seed)
    path = saved(folder, Image.fromarray(pixels), "png")
    sample = ImageFiles([Record(path)], (32, 32), mode, cache)[0]["image"]
    assert sample.dtype == torch.float32
    assert torch.equal(sample, prepare_image(path, (32, 32), mode).pixels)
    assert torch.equal(sample, to_tensor(read_pixels(path, (32, 32), mode)))
    whole = torch.from_numpy(np.atleast_3d(pixels)).movedim(-1, 0)[None].float()
    rows, columns = crop_slices(size, (32, 32), mode)
    whole = resize(whole[..., rows, columns], resized_size(size, (32, 32), mode)) / 255
    torch.testing.assert_close(sample, whole.expand(1, 3, -1, -1)[0])


@pytest.mark.parametrize(("mode", "most"), [("RGB", 12), ("L", 4)])
def test_the_cache_holds_no_more_bytes_than_it_may(folder, mode, most):
    paths = [saved(folder, Image.new(mode, (40, 40)), "png") for _ in range(5)]
    for count in (0, 3, 5):
        files = ImageFiles([Record(path) for path in paths], (32, 32), "stretch", most * 32 * 32 * count + 1)
        assert len(files.cached) == count
        assert sum(pixels.nbytes for pixels in files.cached) <= most * 32 * 32 * count
        assert all(pixels.base is None or pixels.base.nbytes == pixels.nbytes for pixels in files.cached)


def test_resized_images_are_not_rounded():
    image = resize_pixels(np.arange(100, dtype=np.uint8).reshape(10, 10, 1), (7, 7), "stretch")
    assert image.dtype == np.float32
    assert not np.allclose(image * 255, np.round(image * 255), atol=1e-2)


def test_large_images_are_resized_in_strips_to_the_same_bits():
    pixels = colour((700, 300), 0)
    whole = resize(planes(pixels)[None].float(), (90, 70))[0] / 255
    assert torch.equal(to_tensor(resize_pixels(pixels, (90, 70), "stretch")), whole)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg", "webp", "jp2", "gif"])
def test_files_are_read_beyond_the_limit_of_pillow_and_up_to_max_pixels(
    folder, monkeypatch, detector, suffix
):
    path = saved(folder, Image.new("L", (50, 40), 77), suffix)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_pixels(path, (32, 32)).shape == (32, 32, 3)
    assert upright_size(path) == (50, 40)
    assert detector.predict(path, max_pixels=2000).score == pytest.approx(
        detector.predict(open_image(path)).score
    )
    assert Image.MAX_IMAGE_PIXELS == 100
    sentence = rf"{path.name} has 50 x 40 pixels, more than the 1999 of max_pixels"
    for read in (
        lambda: read_pixels(path, (32, 32), max_pixels=1999),
        lambda: read_mask(path, path, (32, 32), max_pixels=1999),
        lambda: detector.predict(path, max_pixels=1999),
        lambda: ImageFiles([Record(path)], (32, 32), max_pixels=1999)[0],
    ):
        with pytest.raises(InputError, match=sentence):
            read()
    with pytest.raises(InputError, match="max_pixels"):
        detector.predict(path, max_pixels=0)
