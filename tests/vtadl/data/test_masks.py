"""Masks of all formats and modes are read with the intended meaning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from skimage.draw import ellipse, line

from vtadl.data import MVTecAD, check
from vtadl.data.mask_files import read_binary_mask, read_mask_image

SIZE = (48, 60)
FEW = settings(max_examples=5, deadline=None, derandomize=True)


@st.composite
def drawn(draw):
    """Draws a few ellipses, some of which touch the border."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    marked = np.zeros(SIZE, bool)
    for _ in range(draw(st.integers(1, 3))):
        centre, radii = rng.integers(0, SIZE), rng.uniform(3, 12, 2)
        marked[ellipse(*centre, *radii, SIZE, rotation=rng.uniform(-3, 3))] = True
    return marked


def grey(marked, level=255, kind=np.uint8):
    return Image.fromarray(np.where(marked, level, 0).astype(kind))


def halves(marked, left, right, kind=np.uint8):
    """Makes a mask with different levels on the left and on the right."""
    return Image.fromarray(np.where(marked, np.where(np.arange(SIZE[1]) < 30, left, right), 0).astype(kind))


def colours(marked, *rgb):
    return Image.merge("RGB", [grey(marked, level) for level in rgb])


def palette(marked, index, *levels):
    image = Image.fromarray(np.where(marked, index, 0).astype(np.uint8)).convert("P")
    image.putpalette([level for rgb in levels for level in rgb])
    return image


def on_alpha(marked, *rgb):
    image = Image.new("RGB", SIZE[::-1], rgb)
    image.putalpha(grey(marked))
    return image


EXACT = {
    "one bit": (lambda m: Image.fromarray(m), "png"),
    "grey": (grey, "PNG"),
    "bmp": (grey, "bmp"),
    "gif": (grey, "gif"),
    "pgm": (grey, "pgm"),
    "one bit pbm": (lambda m: Image.fromarray(m), "pbm"),
    "tga": (grey, "tga"),
    "pcx": (grey, "pcx"),
    "deflated tiff": (grey, "tif"),
    "lossless webp": (grey, "webp"),
    "reversible jp2": (grey, "jp2"),
    "class 1": (lambda m: grey(m, 1), "png"),
    "classes": (lambda m: halves(m, 1, 2), "png"),
    "classes in bmp": (lambda m: halves(m, 3, 7), "bmp"),
    "kinds of defects": (lambda m: halves(m, 247, 251), "png"),
    "a low and a high level": (lambda m: halves(m, 1, 255), "png"),
    "sixteen bits": (lambda m: grey(m, 65535, np.uint16), "png"),
    "classes in sixteen bits": (lambda m: halves(m, 1, 300, np.uint16), "png"),
    "whole numbers in tiff": (lambda m: halves(m, 1, 70_000, np.int32), "tif"),
    "floats": (lambda m: grey(m, 1, np.float32), "tif"),
    "fractions": (lambda m: halves(m, 0.2, 0.9, np.float32), "tif"),
    "a palette's colour": (lambda m: palette(m, 1, (0, 0, 0), (128, 0, 0)), "png"),
    "a palette's index": (lambda m: palette(m, 1, (0, 0, 0), (0, 0, 0)), "png"),
    "a palette on white": (lambda m: palette(m, 2, (255, 255, 255), (9, 9, 9), (200, 0, 0)), "png"),
    "a palette in gif": (lambda m: palette(m, 1, (0, 0, 0), (0, 200, 0)), "gif"),
    "red": (lambda m: colours(m, 255, 0, 0), "png"),
    "a dark colour": (lambda m: colours(m, 0, 0, 9), "ppm"),
    "opaque": (lambda m: colours(m, 0, 255, 0).convert("RGBA"), "png"),
    "alpha over black": (lambda m: on_alpha(m, 0, 0, 0), "png"),
    "alpha over white": (lambda m: on_alpha(m, 255, 255, 255), "png"),
    "alpha over grey": (lambda m: on_alpha(m, 7, 7, 7).convert("LA"), "png"),
    "red where it is opaque": (
        lambda m: Image.composite(on_alpha(m, 255, 0, 0), on_alpha(m, 0, 0, 0), grey(m)),
        "png",
    ),
    "colours on opaque black": (lambda m: colours(m, 90, 0, 9).convert("RGBA"), "tif"),
}
LOSSY = {
    "jpg": ("jpg", {"quality": 75}),
    "worse jpg": ("jpeg", {"quality": 30}),
    "tiff with jpeg inside": ("tif", {"compression": "jpeg"}),
    "webp": ("webp", {"quality": 60}),
    "irreversible jp2": ("jp2", {"irreversible": True, "quality_mode": "rates", "quality_layers": [8]}),
    **({"avif": ("avif", {"quality": 60})} if features.check("avif") else {}),
}
OPTIONS = {"webp": {"lossless": True}, "jp2": {"irreversible": False}, "tif": {"compression": "tiff_deflate"}}


@pytest.mark.parametrize("name", EXACT)
@FEW
@given(marked=drawn())
def test_in_lossless_masks_everything_but_the_background_is_marked(tmp_path_factory, name, marked):
    write, suffix = EXACT[name]
    path = tmp_path_factory.mktemp("mask") / f"mask.{suffix}"
    image = write(marked)
    options = {} if image.mode in ("F", "I") else OPTIONS.get(suffix, {})
    image.save(path, **options)
    marks = read_binary_mask(path)
    assert np.array_equal(marks.pixels, marked)
    assert marks.problem == ""


@pytest.mark.parametrize("name", LOSSY)
@FEW
@given(marked=drawn())
def test_lossy_masks_keep_their_area(tmp_path_factory, name, marked):
    suffix, options = LOSSY[name]
    path = tmp_path_factory.mktemp("mask") / f"mask.{suffix}"
    grey(marked).convert("RGB").save(path, **options)
    found = np.asarray(read_mask_image(path))
    assert np.count_nonzero(found != marked) <= 0.02 * np.count_nonzero(marked) + 1


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("width", [1, 3, 20])
def test_a_lossless_copy_of_a_jpeg_marks_the_same_as_the_jpeg(tmp_path, quality, width):
    marked = np.zeros((100, 130), bool)
    for offset in range(width):
        rows, columns = line(20 + offset, 10, 60 + offset, 110)
        marked[rows, columns] = True
    grey(marked).save(tmp_path / "mask.jpg", quality=quality)
    Image.open(tmp_path / "mask.jpg").save(tmp_path / "mask.png")
    copy = read_binary_mask(tmp_path / "mask.png")
    assert np.array_equal(copy.pixels, read_binary_mask(tmp_path / "mask.jpg").pixels)
    assert np.count_nonzero(copy.pixels != marked) <= 0.02 * np.count_nonzero(marked) + 1
    assert "noise of a JPEG" in copy.note


def test_many_levels_of_classes_are_not_taken_as_noise(tmp_path):
    levels = np.zeros((100, 130), np.uint8)
    for index in range(10):
        levels[10 * index : 10 * index + 4, 20:90] = index + 1
    levels[50:80, 100:120] = 255
    Image.fromarray(levels).save(tmp_path / "mask.png")
    assert np.array_equal(read_binary_mask(tmp_path / "mask.png").pixels, levels > 0)


@FEW
@given(marked=drawn(), smoothing=st.sampled_from([Image.Resampling.BILINEAR, Image.Resampling.LANCZOS]))
def test_soft_edges_are_thresholded_at_half_and_named(tmp_path_factory, marked, smoothing):
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    large = Image.fromarray(np.kron(marked, np.ones((4, 4), np.uint8)) * 255)
    large.resize((75, 60), smoothing).save(path)
    marks = read_binary_mask(path)
    assert np.mean(marks.pixels) == pytest.approx(np.mean(marked), rel=0.05)
    assert "soft edges" in marks.note


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_an_empty_mask_marks_nothing(tmp_path, mode, suffix):
    path = tmp_path / f"mask.{suffix}"
    Image.new(mode, (9, 7)).save(path)
    assert not read_binary_mask(path).pixels.any()


def doubtful(marked):
    """Makes doubtful masks, each with a phrase of the message about it."""
    noise = np.random.default_rng(0).integers(1, 256, SIZE)
    return {
        "no clear edges": (Image.fromarray(np.where(marked, noise, 0).astype(np.uint8)), "png"),
        "no level above": (grey(marked, 1), "jpg"),
        "which are not marked": (halves(marked, 90, 255), "jpg"),
        "all of its border": (grey(~marked), "png"),
    }


@pytest.mark.parametrize("said", doubtful(np.zeros(SIZE, bool)))
def test_a_doubtful_mask_is_named(category, said):
    marked = np.zeros(SIZE, bool)
    marked[10:38, 10:50] = True
    image, suffix = doubtful(marked)[said]
    (category / "ground_truth/hole/000_mask.png").unlink()
    path = category / f"ground_truth/hole/000_mask.{suffix}"
    image.resize((48, 40), Image.Resampling.NEAREST).save(path)
    (problem,) = check(MVTecAD(str(category))).problems
    assert f"mask {path}" in problem
    assert said in problem


def test_several_masks_of_an_image_are_united(tmp_path):
    for index in range(3):
        marked = np.zeros(SIZE, bool)
        marked[10 * index : 10 * index + 5] = True
        (tmp_path / "masks").mkdir(exist_ok=True)
        grey(marked, 240 + index).save(tmp_path / f"masks/{index:03}.png")
    rows = np.asarray(read_mask_image(tmp_path / "masks")).any(1)
    assert np.flatnonzero(rows).tolist() == [*range(5), *range(10, 15), *range(20, 25)]
