"""Data modules: published data sets, folders of the user, and the embedded textures."""

from vtadl.data.augmentation import Augmentation
from vtadl.data.check import check
from vtadl.data.data_report import DataReport
from vtadl.data.file_module import FileDataModule
from vtadl.data.files import ImageFiles
from vtadl.data.folder import Folder
from vtadl.data.mnist import MNISTDigit
from vtadl.data.module import ImageDataModule, Sample, categories_of, rank_sample_count
from vtadl.data.mvtec import BTAD, MVTecAD, MVTecAD2, MVTecLOCO
from vtadl.data.textures import TEXTURES, Texture, TextureDefects
from vtadl.data.visa import Visa

__all__ = [
    "BTAD",
    "TEXTURES",
    "Augmentation",
    "DataReport",
    "FileDataModule",
    "Folder",
    "ImageDataModule",
    "ImageFiles",
    "MNISTDigit",
    "MVTecAD",
    "MVTecAD2",
    "MVTecLOCO",
    "Sample",
    "Texture",
    "TextureDefects",
    "Visa",
    "categories_of",
    "check",
    "rank_sample_count",
]
