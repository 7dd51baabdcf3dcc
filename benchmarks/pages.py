"""`python -m benchmarks.pages` writes the committed results into README.md and docs/benchmarks.md."""

from pathlib import Path

from benchmarks import full_tables, headlines, results
from benchmarks.plots import overview
from benchmarks.results import FILE, Report
from vtadl.common.files import atomic_path

ROOT = Path(__file__).parents[1]
COMMITTED = Path(__file__).parent / "results"
CHART = ROOT / "docs" / "pictures" / "speed.png"
# The pages, and the functions that write the section between their markers.
SECTIONS = {
    ROOT / "README.md": headlines.table,
    ROOT / "docs" / "benchmarks.md": full_tables.sections,
}

START, END = "<!-- benchmarks: written by python -m benchmarks.pages -->", "<!-- end of benchmarks -->"


def main() -> None:
    reports = committed_reports(COMMITTED)
    for page, section in SECTIONS.items():
        text = updated(page.read_text(), section(reports), page.name)
        with atomic_path(page) as path:
            path.write_text(text)
    overview.draw(reports, CHART)


def committed_reports(folder: Path) -> dict[Path, Report]:
    """The results by their folder, those of GPUs first.

    Raises:
        ValueError: if a file of results cannot be read.
    """
    files = sorted(path for path in folder.glob(f"*/{FILE}") if path.parent.name != "local")
    reports = {path.parent: results.read(path) for path in files}
    return dict(sorted(reports.items(), key=lambda item: item[1].environment["gpu"] is None))


def updated(text: str, section: str, name: str) -> str:
    """The text of a page with the section between the markers replaced.

    Raises:
        ValueError: if a marker is missing.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{name} must hold the markers {START} and {END}")
    return f"{before}{start}\n{section}{end}{after}"


if __name__ == "__main__":
    main()
