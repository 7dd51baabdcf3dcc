"""The data modules of MVTec AD, MVTec LOCO AD, MVTec AD 2 and BTAD: a folder for each kind of test image."""

import os
from pathlib import Path
from typing import ClassVar

from vtadl.data.file_module import FileDataModule, FileOptions, Unpack
from vtadl.data.listing import list_images, subfolders
from vtadl.data.records import Record, pair_masks, separate_masks
from vtadl.errors import InputError


class KindFolders(FileDataModule):
    """Reads `train/<normal>`, `test/<kind>`, and optionally `validation/<normal>` and `ground_truth/<kind>`.

    Each subfolder of an anomalous kind is a kind of its own.
    """

    normal: ClassVar[str]  # name of the folders of normal images
    test: ClassVar[str] = "test"  # folder of the kinds of test images
    ground_truth: ClassVar[str] = "ground_truth"  # folder of their masks; it may lie in the folder `test`

    def __init__(self, root: str, category: list[str] | str = "", **options: Unpack[FileOptions]) -> None:
        """Stores the settings; no file is read.

        Args:
            root: Folder of one category; with `category`, folder of all categories.
            category: Name of the category's folder below `root`, or a list of several names, such as
                '[bottle,screw]', for one detector that has thresholds for each of them.
            options: Options of every data module that reads image files.

        Raises:
            InputError: If a list of categories is empty, or names one twice.
        """
        names = [category] if isinstance(category, str) else list(category)
        if not names or len(set(names)) < len(names) or (len(names) > 1 and "" in names):
            raise InputError(f"category is {names}; it has to be one name, or a list of different names")
        super().__init__(os.path.join(root, names[0]) if len(names) == 1 else root, **options)
        self.categories = tuple(names)

    @property
    def folders(self) -> list[Path]:
        several = len(self.categories) > 1
        return [self.root / name for name in self.categories] if several else [self.root]

    def category_of(self, path: Path) -> str:
        return next(
            name
            for name, folder in zip(self.categories, self.folders, strict=True)
            if path.is_relative_to(folder)
        )

    def normal_images(self) -> list[Path]:
        images: list[Path] = []
        for folder in self.folders:
            of_category = list_images(folder / "train" / self.normal, "**/*")
            self.require_images(of_category, folder / "train" / self.normal)
            images += of_category
        return images

    def validation_images(self) -> list[Path]:
        folders = (folder / "validation" / self.normal for folder in self.folders)
        return [path for folder in folders for path in list_images(folder, "**/*")]

    def test_records(self) -> tuple[list[Record], list[str]]:
        tests = [self._test_records(folder) for folder in self.folders]
        return [record for records, _ in tests for record in records], [
            problem for _, problems in tests for problem in problems
        ]

    def _test_records(self, folder: Path) -> tuple[list[Record], list[str]]:
        test, ground_truth = folder / self.test, folder / self.ground_truth
        images: list[Path] = []
        for kind in (kind for kind in subfolders(test) if kind != ground_truth):
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
        kind, category = path.parent.relative_to(test), self.category_of(path)
        if kind.parts[0] == self.normal:
            return Record(path, 0, mask, category=category)
        return Record(path, 1, mask, kind.as_posix(), category)


class MVTecAD(KindFolders):
    """Categories of MVTec AD (Bergmann et al., CVPR 2019) or MVTec LOCO AD (Bergmann et al., IJCV 2022).

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


class MVTecLOCO(MVTecAD):
    """Categories of MVTec LOCO AD (Bergmann et al., IJCV 2022).

    The kinds of anomalies are `logical_anomalies` and `structural_anomalies`. The masks of an image lie in a
    folder of its name, and their levels name defects that `defects_config.json` lists.
    """

    layout = (
        "expected train/good, validation/good, test/{good,logical_anomalies,structural_anomalies} and "
        "ground_truth/<kind>/<name>/*.png in a category's folder. MVTec LOCO AD: "
        "https://www.mvtec.com/company/research/datasets/mvtec-loco, CC BY-NC-SA 4.0 (not for commercial use)"
    )


class MVTecAD2(KindFolders):
    """Categories of MVTec AD 2 (Heckler-Kram et al., 2025).

    Tests use the public images alone. The private ones have no labels: `vtadl predict` scores them.
    """

    normal = "good"
    test = "test_public"
    ground_truth = "test_public/ground_truth"
    unlabelled = ("test_private", "test_private_mixed")
    layout = (
        "expected train/good, validation/good, test_public/{good,bad} and "
        "test_public/ground_truth/bad/<name>_mask.png in a category's folder. MVTec AD 2: "
        "https://www.mvtec.com/company/research/datasets/mvtec-ad-2, CC BY-NC-SA 4.0 (not for commercial use)"
    )


class BTAD(KindFolders):
    """Products of the beanTech Anomaly Detection data set (Mishra et al., ISIE 2021).

    The categories are 01, 02 and 03. The suffix of a mask may differ from that of its image.
    """

    normal = "ok"
    layout = (
        "expected train/ok, test/ok, test/ko and ground_truth/ko in a product's folder (01, 02, 03). "
        "BTAD: https://avires.dimi.uniud.it/papers/btad/btad.zip, CC BY-SA 4.0"
    )
