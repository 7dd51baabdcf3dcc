"""Data modules: the embedded textures, and a user's own folders."""

from vtadl.data.folder import ImageFolder, MVTecFolder
from vtadl.data.module import ImageDataModule, Sample, own_samples
from vtadl.data.textures import TEXTURES, Texture, TextureDefects

__all__ = [
    "TEXTURES",
    "ImageDataModule",
    "ImageFolder",
    "MVTecFolder",
    "Sample",
    "Texture",
    "TextureDefects",
    "own_samples",
]
