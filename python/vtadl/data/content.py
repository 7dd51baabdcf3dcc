"""The contents of image files, and digests by which equal files and equal images are recognised."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vtadl.data.images import MAX_PIXELS, count_frames, open_image, pixel_array
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels


class DecodedImage(NamedTuple):
    """The decoded content of an image file."""

    digest: str  # of the pixels, upright and without transparency
    description: str  # size and mode
    is_two_valued: bool
    frames: int


class FileContent(NamedTuple):
    """The content of an image file, or the error that prevents its decoding."""

    digest: str  # of the bytes of the file
    image: DecodedImage | None
    error: str = ""

    @property
    def identity(self) -> str:
        """A digest that is the same for all files of one image."""
        return self.digest if self.image is None else self.image.digest


# Decoded images by the digest of their files; decoding takes longer than reading.
_CACHE: dict[str, DecodedImage] = {}


def read_contents(paths: Iterable[Path], max_pixels: int = MAX_PIXELS) -> dict[Path, FileContent]:
    """Reads and decodes image files, in as many threads as there are cores."""
    paths = list(paths)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(paths, threads.map(partial(_read, max_pixels=max_pixels), paths), strict=True))


def random_images(contents: Iterable[FileContent], count: int, seed: int, purpose: str) -> set[str]:
    """Draws `count` different images, and returns their identities.

    The result depends only on the seed, the purpose and the contents of the files. If an image is added or
    removed, at most one of the drawn images changes.
    """
    files: dict[str, str] = {}
    for content in contents:
        files[content.identity] = min(content.digest, files.get(content.identity, content.digest))
    ranks = {identity: digest(f"{seed} {purpose} {file}".encode()) for identity, file in files.items()}
    return set(sorted(ranks, key=ranks.__getitem__)[:count])


def digest(content: bytes) -> str:
    """Computes a digest of 32 hexadecimal digits."""
    return blake2b(content, digest_size=16).hexdigest()


def _read(path: Path, max_pixels: int) -> FileContent:
    try:
        file_digest = digest(path.read_bytes())
    except OSError as error:  # for example a broken link
        return FileContent(digest(os.fsencode(path)), None, f"cannot read image {path}: {error.strerror}")
    try:
        if file_digest not in _CACHE:
            _CACHE[file_digest] = _describe(open_image(path, max_pixels), str(path), count_frames(path))
        return FileContent(file_digest, _CACHE[file_digest])
    except InputError as error:
        return FileContent(file_digest, None, str(error))


def _describe(image: Image.Image, name: str, frames: int) -> DecodedImage:
    description = f"{image.width}x{image.height} {image.mode}"
    values = pixel_array(image, name)
    if (values == values[..., :1]).all():  # the image is grey, whether its mode is or not
        values = values[..., :1]
    pixel_digest = digest(f"{values.shape} {values.dtype}".encode() + values.tobytes())
    return DecodedImage(pixel_digest, description, _is_two_valued(values), frames)


def _is_two_valued(values: Pixels) -> bool:
    """Returns whether an image [H, W, C] has at most two different colours."""
    others = values[(values != values[0, 0]).any(-1)]
    return not len(others) or bool((others == others[0]).all())
