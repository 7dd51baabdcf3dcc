"""The parts of the package import downwards only, in the order that its docstring states."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vtadl

ROOT = Path(vtadl.__file__).parent
LAYERS = re.findall(r"^ {4}(\w+) {2,}", vtadl.__doc__ or "", re.MULTILINE)
# The package itself gives access to public names, `python -m vtadl` runs `cli`, and `configs` holds no code.
OTHER_PARTS = {"__init__": {"detector"}, "__main__": {"cli"}, "configs": set[str]()}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in ROOT.rglob("*.py")}


def part(module: str) -> str:
    """The part of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def imported_names(tree: ast.AST) -> Iterator[str]:
    """The modules, and the names in modules, that statements and calls with a literal name import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            if function in ("import_module", "__import__"):
                yield str(node.args[0].value)


def imported_modules(source: str) -> set[str]:
    """The modules of the package that a source text imports."""
    names = [name for name in imported_names(ast.parse(source)) if name.split(".")[0] == "vtadl"]
    return {name if name in MODULES else name.rpartition(".")[0] for name in names}


def upward_imports(module: str, source: str) -> set[str]:
    """The modules that a module imports although they do not stand below its part."""
    own = part(module)
    allowed = {own, *(OTHER_PARTS[own] if own in OTHER_PARTS else LAYERS[LAYERS.index(own) :])}
    return {name for name in imported_modules(source) if part(name) not in allowed}


def test_every_part_has_its_place() -> None:
    assert {part(module) for module in MODULES} == {*LAYERS, *OTHER_PARTS}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    assert not upward_imports(module, MODULES[module].read_text(encoding="utf-8"))


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: imported_modules(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which lists the modules


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vtadl.data.images", "from vtadl.cli.parsing import Parser"),
        ("vtadl.data.images", "def f():\n    from vtadl import detector"),
        ("vtadl.data.images", "import vtadl"),
        ("vtadl.data.images", "from vtadl import Detector"),
        ("vtadl.data.images", "import vtadl.scoring.scorer as scorer"),
        ("vtadl.data.images", "importlib.import_module('vtadl.cli')"),
        ("vtadl.data.images", "__import__('vtadl.detector')"),
        ("vtadl.data._private", "import vtadl.model"),
        ("vtadl.configs", "import vtadl.errors"),
    ],
)
def test_every_kind_of_upward_import_is_found(module: str, source: str) -> None:
    assert upward_imports(module, source)
