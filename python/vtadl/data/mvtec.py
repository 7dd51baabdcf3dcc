"""The data modules of MVTec AD, MVTec LOCO AD and BTAD: one folder for each kind of test image."""

import os
from pathlib import Path
from typing import ClassVar

from vtadl.data.file_module import FileDataModule, FileOptions, Unpack
from vtadl.data.listing import list_images, subfolders
from vtadl.data.records import Record, pair_masks, separate_masks


class _KindFolders(FileDataModule):
    """Reads `train/<normal>`, `test/<kind>`, and optionally `validation/<normal>` and `ground_truth/<kind>`.

    Each subfolder of an anomalous kind is a kind of its own.
    """

    normal: ClassVar[str]  # name of the folders of normal images

    def __init__(self, root: str, category: str = "", **options: Unpack[FileOptions]) -> None:
        """Stores the settings; no file is read.

        Args:
            root: Folder of one category; with `category`, folder of all categories.
            category: Name of the category's folder below `root`.
            options: Options of every data module that reads image files.
        """
        super().__init__(os.path.join(root, category), **options)

    def normal_images(self) -> list[Path]:
        folder = self.root / "train" / self.normal
        paths = list_images(folder, "**/*")
        self.require_images(paths, folder)
        return paths

    def validation_images(self) -> list[Path]:
        return list_images(self.root / "validation" / self.normal, "**/*")

    def test_records(self) -> tuple[list[Record], list[str]]:
        test, ground_truth = self.root / "test", self.root / "ground_truth"
        images: list[Path] = []
        for kind in subfolders(test):
            of_kind = list_images(kind, "**/*")
            self.require_images(of_kind, kind)
            images += of_kind
        self.require_images(images, test)
        images, masks_beside = separate_masks(sorted(images))
        masks = [mask for kind in subfolders(ground_truth) for mask in list_images(kind, "**/*")]
        masks += list_images(ground_truth)
        pairing = pair_masks(images, test, (ground_truth, masks), (test, masks_beside))
        return [self._record(path, test, pairing.mask_of.get(path)) for path in images], pairing.problems

    def _record(self, path: Path, test: Path, mask: Path | None) -> Record:
        kind = path.parent.relative_to(test)
        is_normal = kind.parts[0] == self.normal
        return Record(path, 0, mask) if is_normal else Record(path, 1, mask, kind.as_posix())


class MVTecAD(_KindFolders):
    """One category of MVTec AD (Bergmann et al., CVPR 2019) or MVTec LOCO AD (Bergmann et al., IJCV 2022).

    Other folders with the same layout work, too. Images in `test/good` are normal, those in any other
    `test/<kind>` are anomalous, and masks are optional. If `validation/good` has images, only these are used
    for validation.
    """

    normal = "good"
    layout = (
        "expected train/good, test/<kind>, and optionally ground_truth/<kind>/<name>_mask.png in a "
        "category's folder. MVTec AD itself: https://www.mvtec.com/company/research/datasets/mvtec-ad, "
        "CC BY-NC-SA 4.0 (not for commercial use)"
    )


class BTAD(_KindFolders):
    """One product of the beanTech Anomaly Detection data set (Mishra et al., ISIE 2021).

    The categories are 01, 02 and 03. The suffix of a mask may differ from that of its image.
    """

    normal = "ok"
    layout = (
        "expected train/ok, test/ok, test/ko and ground_truth/ko in a product's folder (01, 02, 03). "
        "BTAD: https://avires.dimi.uniud.it/papers/btad/btad.zip, CC BY-SA 4.0"
    )
