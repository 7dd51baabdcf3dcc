"""The data module of images in any layout, selected by globs."""

from collections.abc import Sequence
from pathlib import Path

from vtadl.common.ranges import require_fraction
from vtadl.common.text import first_few
from vtadl.data.content import random_images, read_contents
from vtadl.data.file_module import FileDataModule, FileOptions, Unpack
from vtadl.data.globs import split_glob
from vtadl.data.listing import list_images
from vtadl.data.mvtec import MVTecAD
from vtadl.data.records import Record, is_named_as_anomalous, pair_masks, separate_masks
from vtadl.errors import InputError


class Folder(FileDataModule):
    """Normal images, optional anomalous images and optional masks, each selected by a glob below a folder.

    A mask belongs to the anomalous image with the same path. Paths are compared below the part of each glob
    that has no wildcards, without the suffix, and without an ending such as `_mask` of the mask's name. With
    `anomalous=bad/**/*` and `masks=masks/**/*`, for example, the mask of `bad/left/7.jpg` is
    `masks/left/7.png` or `masks/left/7_mask.png`. The kind of an anomalous image is the name of its folder.
    """

    layout = (
        "each of the globs `normal`, `anomalous`, `test_normal` and `masks` must match images or be empty"
    )
    uses_all_files = False

    def __init__(
        self,
        root: str,
        normal: str = "**/*",
        anomalous: str = "",
        test_normal: str = "",
        masks: str = "",
        test_fraction: float = 0.2,
        **options: Unpack[FileOptions],
    ) -> None:
        """Stores the settings; no file is read.

        Args:
            root: Folder to which the globs are relative. `**` matches any number of folders, and the name of
                a folder matches everything in it.
            normal: Glob of normal images to train with; images that another glob matches are left out.
            anomalous: Glob of anomalous images to test with.
            test_normal: Glob of normal images to test with. If it is empty and `anomalous` is not, a fraction
                of `normal` is held out for testing.
            masks: Glob of masks of anomalous images. Masks beside their images, such as `7_mask.png`, need no
                glob.
            test_fraction: Fraction of `normal` that is held out for testing if `test_normal` is empty.
            options: Options of every data module that reads image files.
        """
        super().__init__(root, **options)
        self.globs = {"normal": normal, "anomalous": anomalous, "test_normal": test_normal, "masks": masks}
        self.test_fraction = test_fraction

    def normal_images(self) -> list[Path]:
        return self._normal_split()[1]

    def test_records(self) -> tuple[list[Record], list[str]]:
        if not self.globs["anomalous"] and not self.globs["test_normal"]:
            raise InputError(
                f"there is nothing to test with in {self.root}: `anomalous` and `test_normal` name no images"
            )
        masks = self._find("masks")
        self._require("masks", masks)
        anomalous, masks_beside = separate_masks(
            path for path in self._find("anomalous") if path not in set(masks)
        )
        self._require("anomalous", anomalous)
        base = self._base("anomalous")
        pairing = pair_masks(anomalous, base, (self._base("masks"), masks), (base, masks_beside))
        records = [Record(path, 1, pairing.mask_of.get(path), path.parent.name) for path in anomalous]
        return sorted([*records, *map(Record, self._normal_split()[0])]), pairing.problems

    def warnings(self) -> list[str]:
        """Returns a sentence about normal images with names of anomalous images or masks, if any."""
        base = self._base("normal")
        suspects = [path for path in self.normal_images() if is_named_as_anomalous(path.relative_to(base))]
        if not suspects:
            return []
        few = first_few(path.relative_to(self.root) for path in suspects)
        has_layout = (self.root / "train" / MVTecAD.normal).is_dir()
        hint = ", or use `--data MVTecAD`, whose layout this is" if has_layout else ""
        return [
            f"{len(suspects)} of the images that `normal` matches have names of anomalous images or masks "
            f"({few}): select each kind of image by `normal`, `anomalous`, `test_normal` and `masks`{hint}"
        ]

    def _normal_split(self) -> tuple[list[Path], list[Path]]:
        """Splits normal images into those to test with and those to train with."""
        others = {path for name in ("anomalous", "test_normal", "masks") for path in self._find(name)}
        paths = [path for path in self._find("normal") if path not in others]
        self._require("normal", paths)
        if self.globs["test_normal"]:
            test = self._find("test_normal")
            self._require("test_normal", test)
            return test, paths
        require_fraction(test_fraction=self.test_fraction)
        if not self.globs["anomalous"]:
            return [], paths
        contents = read_contents(paths, self.max_pixels)
        originals = {content.identity: path for path, content in reversed(contents.items())}
        count = round(self.test_fraction * len(originals))
        held_out = random_images(contents.values(), count, self.seed, "test")
        test = sorted(originals[identity] for identity in held_out)
        return test, [path for path in paths if contents[path].identity not in held_out]

    def _find(self, name: str) -> list[Path]:
        glob = self.globs[name]
        try:
            base = self._base(name)
            if not base.is_relative_to(self.root) and not base.is_dir():
                raise InputError(f"{name} is {glob}, but there is no folder {base}")
            return list_images(self.root, glob) if glob else []
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{name} is {glob}, which is not a valid glob: {error}") from error

    def _require(self, name: str, paths: Sequence[Path]) -> None:
        """Raises InputError if a glob was given, but matches nothing."""
        if self.globs[name]:
            self.require_images(paths, self.root / self.globs[name])

    def _base(self, name: str) -> Path:
        """Returns the folder in which all matches of a glob lie."""
        return split_glob(self.root, self.globs[name])[0]
