"""Fuzzes what reads the user's files: whatever they hold, it is a result or an error that names the file
or what in it is wrong.

pip install atheris
python tests/fuzz/fuzz_input.py image -max_total_time=600 [CORPUS]
python tests/fuzz/fuzz_input.py yaml -max_total_time=600 [CORPUS]
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "vtadl", "yaml"]):
    from PIL import Image

    from vtadl import cli
    from vtadl.data.images import read_pixels
    from vtadl.errors import InputError

FOLDER = Path(tempfile.mkdtemp())


def image(data: bytes) -> None:
    path = FOLDER / "image.png"
    path.write_bytes(data)
    try:
        read_pixels(path, (16, 16))
    except InputError as error:
        if str(path) not in str(error):
            raise


def yaml(data: bytes) -> None:
    path = FOLDER / "settings.yaml"
    path.write_bytes(data)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            cli.main(["fit", "--config", str(path), "--print_config"])
        except SystemExit as stop:
            if stop.code not in (None, 0, 1, 2):
                raise


def seeds() -> Path:
    """A few images and settings to start from."""
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for mode in ("L", "RGB", "P", "I;16", "RGBA"):
        for suffix in ("png", "tiff"):
            Image.new(mode, (5, 4)).save(corpus / f"{mode.replace(';', '')}.{suffix}")
    (corpus / "settings.yaml").write_text("model: {width: 16, depth: 1}\ntrainer: {max_epochs: 1}\n")
    return corpus


def main() -> None:
    targets = {"image": image, "yaml": yaml}
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: fuzz_input.py {'|'.join(targets)} [options of libFuzzer]")
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(seeds())], targets[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
