"""The reference judges the operators, so neither may contain the other's code."""

import ast
from pathlib import Path

import pytest

import vtadl_ext
from vtadl_ext import _fallback, reference

PACKAGE = Path(vtadl_ext.__file__).parent
REFERENCE, FALLBACK, TYPES = "vtadl_ext.reference", "vtadl_ext._fallback", "vtadl_ext._types"


def imported_names(source: str) -> dict[str, str]:
    """What a file imports and the name that it gives it, `vtadl_ext.a` for `from vtadl_ext import a` too."""
    names = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name: alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}": alias.asname or alias.name for alias in node.names}
    return names


def imported_modules(source: str) -> set[str]:
    """The modules of vtadl_ext that a file imports."""
    return {name for name in imported_names(source) if f"{name}.".startswith("vtadl_ext.")}


def is_of_reference(module: str) -> bool:
    return f"{module}.".startswith(f"{REFERENCE}.")


def last_name(node: ast.AST) -> str | None:
    """`c` for `c` and for `a.b.c`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)


def uses_reference(source: str) -> bool:
    """Whether a file imports the reference, or has it as a name or as an attribute of another module."""
    names = (last_name(node) for node in ast.walk(ast.parse(source)))
    return "reference" in names or any(map(is_of_reference, imported_modules(source)))


def taken_from_fallback(source: str) -> set[str]:
    """The names that a file imports from the fallback, or reads as attributes of it."""
    imports = imported_names(source)
    modules = {"_fallback", imports.get(FALLBACK, FALLBACK)}
    imported = {name.removeprefix(f"{FALLBACK}.") for name in imports if name.startswith(f"{FALLBACK}.")}
    attributes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))
    return imported | {node.attr for node in attributes if last_name(node.value) in modules}


def only_describes_fields(source: str) -> bool:
    """Whether a file consists of imports from typing and torch, and of classes of fields without values."""

    def is_docstring(node: ast.stmt) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    def is_class_of_fields(node: ast.stmt) -> bool:
        return isinstance(node, ast.ClassDef) and all(
            is_docstring(field) or (isinstance(field, ast.AnnAssign) and field.value is None)
            for field in node.body
        )

    def is_allowed_import(node: ast.stmt) -> bool:
        return isinstance(node, ast.ImportFrom) and node.module in ("typing", "torch")

    return all(
        is_docstring(node) or is_allowed_import(node) or is_class_of_fields(node)
        for node in ast.parse(source).body
    )


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


FILES = sorted(PACKAGE.rglob("*.py"))
REFERENCE_FILES = [file for file in FILES if file.is_relative_to(PACKAGE / "reference")]
OPERATOR_FILES = [
    file
    for file in FILES
    if file not in REFERENCE_FILES and name_of(file) not in ("__init__.py", "_fallback.py")
]


@pytest.mark.parametrize("file", REFERENCE_FILES, ids=name_of)
def test_the_reference_imports_nothing_else_of_the_library_but_types(file):
    others = {module for module in imported_modules(file.read_text()) if not is_of_reference(module)}
    assert all(module.startswith(f"{TYPES}.") for module in others)


def test_types_hold_no_formula():
    assert only_describes_fields((PACKAGE / "_types.py").read_text())


@pytest.mark.parametrize("file", OPERATOR_FILES, ids=name_of)
def test_operators_do_not_use_the_reference(file):
    assert not uses_reference(file.read_text())


def test_the_package_imports_the_reference_as_a_whole():
    modules = imported_modules((PACKAGE / "__init__.py").read_text())
    assert set(filter(is_of_reference, modules)) == {REFERENCE}


@pytest.mark.parametrize("file", [PACKAGE / "__init__.py", *OPERATOR_FILES], ids=name_of)
def test_only_what_the_fallback_exports_is_taken_from_it(file):
    assert taken_from_fallback(file.read_text()) <= set(_fallback.__all__)


def test_the_fallback_exports_no_internals_of_the_reference():
    for name in _fallback.__all__:
        assert getattr(_fallback, name).__module__ == FALLBACK or name in reference.__all__


@pytest.mark.parametrize(
    ("source", "of_reference"),
    [
        ("from vtadl_ext import reference", True),
        ("from vtadl_ext.reference.gmm import gmm_nll", True),
        ("def f():\n    import vtadl_ext.reference.ssim", True),
        ("from vtadl_ext import _padding", False),
        ("from vtadl_ext._padding import pad_image", False),
        ("import vtadl_ext", False),
        ("import torch", None),
    ],
)
def test_every_form_of_an_import_is_seen(source, of_reference):
    expected = set() if of_reference is None else {of_reference}
    assert set(map(is_of_reference, imported_modules(source))) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import vtadl_ext\nvtadl_ext.reference.gmm_nll", True),
        ("import vtadl_ext as v\nv.reference.gmm_nll", True),
        ("reference.gmm_nll", True),
        ("from vtadl_ext import _fallback\n_fallback.reference.gmm.ignore_samples", True),
        ("from vtadl_ext import use_reference\nuse_reference()", False),
    ],
)
def test_every_use_of_the_reference_is_seen(source, expected):
    assert uses_reference(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "from vtadl_ext._fallback import widen",
        "from vtadl_ext._fallback import widen as w",
        "from vtadl_ext import _fallback\n_fallback.widen",
        "from vtadl_ext import _fallback as f\nf.widen",
        "import vtadl_ext._fallback\nvtadl_ext._fallback.widen",
        "from vtadl_ext import gmm\ngmm._fallback.widen",
    ],
)
def test_every_way_to_take_from_the_fallback_is_seen(source):
    assert "widen" in taken_from_fallback(source)


@pytest.mark.parametrize(
    "source",
    [
        "from vtadl_ext._padding import pad_image",
        "import torch",
        "from typing import NamedTuple\nclass A(NamedTuple):\n    a: int = 1",
        "class A:\n    def f(self): ...",
        "a = 1",
        "print()",
    ],
)
def test_other_code_is_no_description_of_fields(source):
    assert not only_describes_fields(source)
