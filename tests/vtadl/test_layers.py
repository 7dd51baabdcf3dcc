"""The parts of the package import downwards only, in the order that its docstring states."""

import ast
import re
from pathlib import Path

import vtadl

ROOT = Path(vtadl.__file__).parent
LAYERS = re.findall(r"^ {4}(\w+) {2,}", vtadl.__doc__ or "", re.MULTILINE)


def imported_parts(file: Path) -> set[str]:
    """The parts of the package that a module imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names += [node.module or ""]
            names += [f"vtadl.{name.name}" for name in node.names if node.module == "vtadl"]
    return {name.split(".")[1] for name in names if name.startswith("vtadl.")}


def test_every_part_has_its_place() -> None:
    parts = {
        path.stem for path in ROOT.iterdir() if not path.name.startswith("_") and path.suffix in ("", ".py")
    }
    assert parts - {"configs"} == set(LAYERS)


def test_imports_point_down() -> None:
    for file in ROOT.rglob("*.py"):
        part = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if part in LAYERS:
            upwards = imported_parts(file) - set(LAYERS[: LAYERS.index(part) + 1])
            assert not upwards, f"{file} imports {upwards}"
