"""The reference judges the operators, so neither may contain the other's code."""

import ast
from pathlib import Path

import pytest

import vtadl_ext

PACKAGE = Path(vtadl_ext.__file__).parent
REFERENCE, TYPES = "vtadl_ext.reference", "vtadl_ext._types"
# The fallback runs the reference where there are no kernels, and the package exposes it to users.
MAY_IMPORT_THE_REFERENCE = {"__init__.py", "_fallback.py"}


def imported_modules(source: str) -> set[str]:
    """The modules of vtadl_ext that a file imports, `vtadl_ext.a` for `from vtadl_ext import a` too."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in modules if f"{module}.".startswith("vtadl_ext.")}


def is_of_reference(module: str) -> bool:
    return f"{module}.".startswith(f"{REFERENCE}.")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.py"))


@pytest.mark.parametrize("file", files(PACKAGE / "reference"), ids=lambda file: file.name)
def test_the_reference_imports_nothing_else_of_the_library_but_types(file):
    others = {module for module in imported_modules(file.read_text()) if not is_of_reference(module)}
    assert all(module.startswith(f"{TYPES}.") for module in others)


def test_types_hold_no_formula():
    """Nothing but annotated fields and their descriptions."""
    module = ast.parse((PACKAGE / "_types.py").read_text())
    statements = [node for node in module.body if not isinstance(node, ast.Expr | ast.ImportFrom)]
    assert all(isinstance(node, ast.ClassDef) for node in statements)
    fields = [field for node in statements for field in node.body]
    assert all(isinstance(field, ast.Expr | ast.AnnAssign) for field in fields)


@pytest.mark.parametrize("file", files(PACKAGE), ids=lambda file: file.name)
def test_only_the_fallback_and_the_package_import_the_reference(file):
    imports_it = any(map(is_of_reference, imported_modules(file.read_text())))
    assert imports_it == (file.name in MAY_IMPORT_THE_REFERENCE)


@pytest.mark.parametrize(
    ("source", "of_reference"),
    [
        ("from vtadl_ext import reference", True),
        ("from vtadl_ext.reference.gmm import gmm_nll", True),
        ("def f():\n    import vtadl_ext.reference.ssim", True),
        ("from vtadl_ext import _padding", False),
        ("from vtadl_ext._padding import reflect_image", False),
        ("import vtadl_ext", False),
        ("import torch", None),
    ],
)
def test_every_form_of_an_import_is_seen(source, of_reference):
    expected = set() if of_reference is None else {of_reference}
    assert set(map(is_of_reference, imported_modules(source))) == expected
