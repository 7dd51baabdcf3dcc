"""Finding image files below a folder, and the reasons why other files are left out."""

from pathlib import Path

from vtadl.data.formats import has_image_content, has_image_suffix
from vtadl.data.globs import matches, split_glob, walk_files
from vtadl.data.predictions import is_prediction

# Why a file is left out.
HIDDEN = "hidden files"
PREDICTION = "files that `vtadl predict` wrote"
BROKEN_LINK = "broken links"
UNKNOWN_SUFFIX = "images without the suffix of an image"
NO_IMAGE = "files that are not images"


def list_images(folder: Path, pattern: str = "*") -> list[Path]:
    """Lists the images below a folder whose paths match a glob, sorted; none if the folder does not exist.

    Linked folders are followed. A broken link with the suffix of an image is listed, so that reading it
    raises an error that names it. Hidden files, files in hidden folders and files that `vtadl predict` wrote
    are left out.
    """
    base, parts = split_glob(folder, pattern)
    return sorted(
        path
        for path in walk_files(base, None if "**" in parts else len(parts))
        if matches(path.relative_to(base).parts, parts)
        and has_image_suffix(path)
        and not is_hidden(path, base)
        and not is_prediction(path)
    )


def subfolders(folder: Path) -> list[Path]:
    """Lists the folders in a folder, sorted; linked ones are included, hidden ones are not."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def is_hidden(path: Path, base: Path) -> bool:
    """Returns whether a file, or one of the folders between `base` and the file, is hidden."""
    return any(part.startswith(".") for part in path.relative_to(base).parts)


def exclusion_reason(path: Path, base: Path) -> str:
    """Returns why a file below a folder is not taken as an image; an empty text if it is."""
    if is_hidden(path, base):
        return HIDDEN
    if is_prediction(path):
        return PREDICTION
    if has_image_suffix(path):
        return ""
    if not path.exists():
        return BROKEN_LINK
    return UNKNOWN_SUFFIX if has_image_content(path) else NO_IMAGE
