"""The image formats that are read, and the suffixes of their files."""

import struct
from pathlib import Path

from PIL import Image

Image.init()
# Pillow's formats that hold pixels and that Pillow or its libraries decode. Of its other formats, some start
# a program (EPS, PDF), some are drawings (WMF), and some are only identified (HDF5).
_SAFE_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG"),
    *("PPM", "PSD", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
FORMATS = tuple(name for name in _SAFE_FORMATS if name in Image.OPEN)
SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")
)
# The errors that Pillow's decoders raise for damaged files.
DECODER_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError, MemoryError),
    *(ArithmeticError, LookupError, struct.error),
)


def has_image_suffix(path: Path) -> bool:
    """Returns whether the name of a file is that of an image."""
    return path.suffix.lower() in SUFFIXES


def has_image_content(path: Path) -> bool:
    """Returns whether a file begins like an image, whatever its name is."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Image.DecompressionBombError:  # a large image
        return True
    except DECODER_ERRORS:
        return False
