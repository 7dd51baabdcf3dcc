"""The names of the data modules, as the commands' help lists them. Listing them imports no PyTorch."""

DATA_MODULES = (
    *("Folder", "MVTecAD", "MVTecLOCO", "MVTecAD2", "Visa", "BTAD"),
    *("MNISTDigit", "TextureDefects"),
)


def data_modules() -> str:
    """The names as part of a sentence."""
    return f"{', '.join(DATA_MODULES[:-1])} or {DATA_MODULES[-1]}"
