"""The Python blocks of docs/*.md, run. Each stands alone and asserts that it works."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
HEADING_OR_BLOCK = re.compile(r"^#+ ([^\n]+)$|^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def recipes():
    for page in sorted(DOCS.glob("*.md")):
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
