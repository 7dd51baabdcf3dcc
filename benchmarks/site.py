"""A hook of mkdocs that adds the committed results of benchmarks, and their plots, to the documentation."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

COMMITTED = Path(__file__).parent / "results"
SUFFIXES = (".png", ".svg", ".json")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in sorted(COMMITTED.glob("*/*")):
        if path.suffix in SUFFIXES and path.parent.name != "local":
            name = f"results/{path.parent.name}/{path.name}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Redirects the links of docs/benchmarks.md to folders and files of results."""
    linked = re.sub(r"\]\(\.\./benchmarks/results/([^/)]+)\)", r"](results/\1/results.json)", markdown)
    return linked.replace("](../benchmarks/results/", "](results/")
