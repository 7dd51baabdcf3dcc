import numpy as np
import pytest
import torch
from PIL import Image

from vtadl.data.images import read_pixels, upright_size
from vtadl.data.mask_files import read_mask
from vtadl.errors import InputError
from vtadl.images.pixels import to_tensor


def read_image(path, size, resize_mode="stretch"):
    return to_tensor(read_pixels(path, size, resize_mode))


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "PNG", "tif", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_and_colour_images_of_each_format_become_rgb(tmp_path, save_image, suffix, mode):
    image = read_image(save_image(tmp_path / f"image.{suffix}", mode=mode), (20, 24))
    assert image.shape == (3, 20, 24)
    assert 0.3 < image.min() <= image.max() < 0.5
    if mode == "L":
        assert torch.allclose(image[0], image[1], atol=0.02)  # WebP has no grey mode


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_transparency_is_ignored_and_palettes_become_colours(tmp_path, mode):
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:, 4:] = 255
    path = tmp_path / "image.png"
    Image.fromarray(pixels).convert(mode).save(path)
    assert torch.equal(read_image(path, (8, 8)), torch.from_numpy(pixels / 255).float().permute(2, 0, 1))


def test_grey_images_of_sixteen_bits_keep_them(tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) + 32768
    path = save(tmp_path / "deep.png", levels)
    assert np.array_equal(read_pixels(path, (16, 16))[..., 1], levels)
    assert read_image(path, (16, 16)).mean().item() == pytest.approx(levels.mean() / 65535, abs=1e-6)


@pytest.mark.parametrize("pixels", [np.full((4, 4), 1.5, np.float32), np.full((4, 4), 100_000, np.int32)])
def test_pixels_of_another_type_are_refused(tmp_path, pixels):
    with pytest.raises(InputError, match=r"odd\.tif: its pixels are not integers of 8 or 16 bits"):
        read_image(save(tmp_path / "odd.tif", pixels), (4, 4))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_an_image_is_applied(tmp_path, orientation):
    upright = np.zeros((6, 10), np.uint8)
    upright[:2, :4] = 255  # a bright rectangle at the upper left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "turned.png", np.ascontiguousarray(stored), exif=exif)
    assert upright_size(path) == (10, 6)
    assert np.array_equal(read_pixels(path, (6, 10))[..., 0], upright)


def test_a_crop_keeps_the_centre_and_the_aspect_ratio(tmp_path):
    pixels = np.zeros((20, 40), np.uint8)
    pixels[:, 8:32] = 255
    path = save(tmp_path / "wide.png", pixels)
    assert read_image(path, (10, 10), "crop").min() == 1
    assert read_image(path, (10, 10), "stretch").mean().item() == pytest.approx(0.6)


@pytest.mark.parametrize("resize_mode", ["stretch", "crop"])
def test_image_and_mask_are_resized_alike(tmp_path, resize_mode):
    marked = np.zeros((60, 90), np.uint8)
    marked[20:40, 30:60] = 255
    path = save(tmp_path / "image.png", marked)
    mask = read_mask(save(tmp_path / "mask.png", marked), path, (33, 33), resize_mode)
    assert set(mask.unique().tolist()) == {0, 1}
    assert torch.equal(mask[0], (read_image(path, (33, 33), resize_mode)[0] >= 0.5).float())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.bool_])
def test_any_value_above_zero_marks_a_pixel(tmp_path, kind):
    values = np.zeros((4, 4), kind)
    values[1, 2] = 1
    path = save(tmp_path / "mask.png", values)
    assert torch.equal(read_mask(path, path, (4, 4))[0], torch.from_numpy(values > 0).float())


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.6])
def test_a_corrupt_or_truncated_image_is_named(tmp_path, save_image, suffix, kept):
    path = save_image(tmp_path / f"broken.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match=f"cannot read image .*broken.{suffix}"):
        read_image(path, (16, 16))


@pytest.mark.parametrize("orientation", [90, 9, 0])
def test_an_invalid_orientation_is_ignored(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(tmp_path / "image.png", exif=exif)
    assert upright_size(tmp_path / "image.png") == (6, 4)
    assert read_pixels(tmp_path / "image.png", (4, 6)).shape == (4, 6, 3)


@pytest.mark.parametrize(
    "error", [RuntimeError, TypeError, MemoryError, KeyError, ZeroDivisionError, EOFError]
)
def test_every_error_of_a_decoder_names_the_file(tmp_path, monkeypatch, error):
    Image.new("RGB", (6, 4)).save(tmp_path / "image.png")

    def fail(image):
        raise error("of the decoder")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(InputError, match=r"^cannot read image .*image\.png: .*of the decoder"):
        read_pixels(tmp_path / "image.png", (4, 6))
