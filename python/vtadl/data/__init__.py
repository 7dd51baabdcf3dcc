"""Data modules: the embedded textures, MNIST, and a user's own folders."""

from vtadl.data.folder import ImageFolder, MVTecFolder
from vtadl.data.mnist import MNISTDigit
from vtadl.data.module import ImageDataModule, Sample
from vtadl.data.textures import TEXTURES, Texture, TextureDefects

__all__ = [
    "TEXTURES",
    "ImageDataModule",
    "ImageFolder",
    "MNISTDigit",
    "MVTecFolder",
    "Sample",
    "Texture",
    "TextureDefects",
]
