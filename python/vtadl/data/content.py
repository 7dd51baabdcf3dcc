"""What image files hold: digests by which a file, or a picture, is known again."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vtadl.data.images import MAX_PIXELS, count_frames, numbers_of, open_image
from vtadl.errors import InputError
from vtadl.images.pixels import Pixels


class Picture(NamedTuple):
    """What a file decodes to."""

    pixels: str  # digest of them, upright and without transparency
    description: str  # size and mode
    is_two_valued: bool
    frames: int


class Content(NamedTuple):
    """An image file, or why it cannot be read."""

    file: str  # digest of its bytes
    picture: Picture | None
    error: str = ""

    @property
    def identity(self) -> str:
        """The same for all files of one picture."""
        return self.file if self.picture is None else self.picture.pixels


_DECODED: dict[str, Picture] = {}  # by the digest of the file's bytes: decoding takes longer than reading


def read_contents(paths: Iterable[Path], max_pixels: int = MAX_PIXELS) -> dict[Path, Content]:
    """What image files hold, read by as many threads as there are cores."""
    paths = list(paths)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(paths, threads.map(partial(_read, max_pixels=max_pixels), paths), strict=True))


def draw(contents: Iterable[Content], count: int, seed: int, purpose: str) -> set[str]:
    """So many random pictures, by their identity.

    They depend on the seed and on what the files hold: without a picture, or with one more, at most one other
    is drawn.
    """
    files: dict[str, str] = {}
    for content in contents:
        files[content.identity] = min(content.file, files.get(content.identity, content.file))
    ranks = {identity: digest(f"{seed} {purpose} {file}".encode()) for identity, file in files.items()}
    return set(sorted(ranks, key=ranks.__getitem__)[:count])


def digest(content: bytes) -> str:
    """32 hexadecimal digits."""
    return blake2b(content, digest_size=16).hexdigest()


def _read(path: Path, max_pixels: int) -> Content:
    try:
        file = digest(path.read_bytes())
    except OSError as error:  # a link that leads nowhere, maybe
        return Content(digest(os.fsencode(path)), None, f"cannot read image {path}: {error.strerror}")
    try:
        if file not in _DECODED:
            _DECODED[file] = _describe(open_image(path, max_pixels), str(path), count_frames(path))
        return Content(file, _DECODED[file])
    except InputError as error:
        return Content(file, None, str(error))


def _describe(image: Image.Image, name: str, frames: int) -> Picture:
    description = f"{image.width}x{image.height} {image.mode}"
    values = numbers_of(image, name)
    if (values == values[..., :1]).all():  # grey, whether or not it is kept as a colour
        values = values[..., :1]
    pixels = digest(f"{values.shape} {values.dtype}".encode() + values.tobytes())
    return Picture(pixels, description, _has_two_values(values), frames)


def _has_two_values(values: Pixels) -> bool:
    """Whether an image [H, W, C] of any type holds two colours at most."""
    others = values[(values != values[0, 0]).any(-1)]
    return not len(others) or bool((others == others[0]).all())
