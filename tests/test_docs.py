"""The documentation: its site builds, its Python blocks run and assert their results, its paths exist."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vtadl import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HEADING_OR_BLOCK = re.compile(r"^#+ ([^\n]+)$|^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)

TUTORIAL = DOCS / "tutorial.md"
TUTORIAL_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)

PAGES = [*sorted(path.name for path in DOCS.glob("*.md")), "../README.md", "../CONTRIBUTING.md"]
# A file or folder of the repository in a code span, and maybe the name of something in it.
PLACE = re.compile(r"`((?:csrc|vtadl_ext|python|tests|benchmarks|docs|tools)/[\w./-]*)(?:::? ?(\w+))?`")
# A test in a code span. Those after the first in a line of a table leave out the file.
TEST = re.compile(r"`(tests/[\w./]+\.py)?::(\w+)`")
# Two lines of a box in the drawing: a folder and a file in it, or two paths.
BOX = re.compile(r">((?:csrc|vtadl_ext|python)/[^<]*)</text>\n<text[^>]*>([^<]*)<")


def recipes():
    for page in sorted(set(DOCS.glob("*.md")) - {TUTORIAL}):
        heading = ""
        for match in HEADING_OR_BLOCK.finditer(page.read_text()):
            heading = match[1] or heading
            if match[2]:
                yield pytest.param(match[2], id=f"{page.stem}-{heading.replace(' ', '_')}")


@pytest.mark.parametrize("code", list(recipes()))
def test_the_recipe_works(code: str):
    assert re.search(r"^assert ", code, flags=re.MULTILINE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small networks: threads would mostly wait for each other
    try:
        exec(code, {})
    finally:
        torch.set_num_threads(threads)


def test_the_tutorial_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for language, code in TUTORIAL_BLOCK.findall(TUTORIAL.read_text()):
        if language == "python":
            exec(code, {})
        else:
            program, *arguments = shlex.split(code)
            assert program == "vtadl"
            assert cli.main(arguments) == 0
    assert (tmp_path / "runs" / "gravel" / "report.html").exists()


def names_of_tests(path: Path) -> set[str]:
    functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist_and_hold_the_names(page):
    for path, name in PLACE.findall((DOCS / page).read_text()):
        if "NAME" in path or path.startswith("benchmarks/results/MACHINE"):
            continue
        assert (ROOT / path).exists(), path
        assert not name or re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{name} in {path}"


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_a_page_names_exist(page):
    for line in (DOCS / page).read_text().splitlines():
        path = ""
        for next_path, name in TEST.findall(line):
            path = next_path or path
            assert name in names_of_tests(ROOT / path), f"{path}::{name}"


def test_the_files_in_the_drawing_of_the_architecture_exist():
    boxes = BOX.findall((DOCS / "drawings" / "architecture.svg").read_text())
    assert len(boxes) == 12
    for first, second in boxes:
        paths = [first, second] if "/" in second else [first + second]
        assert all((ROOT / path).exists() for path in paths), paths


def test_the_site_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    result = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "kernels" / "index.html").exists()
