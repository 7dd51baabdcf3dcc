"""The report of a data set: counts, problems and notes."""

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass
class DataReport:
    """Counts of a data set, and what is wrong with it.

    Attributes:
        counts: Numbers of images of each split, and of each kind of test image.
        masks: Numbers of anomalous test images with and without a mask.
        sizes: Numbers of images of each size and mode.
        problems: What should be corrected, one sentence each.
        notes: What is unusual or missing, but does not prevent training, one sentence each.
    """

    counts: dict[str, int] = field(default_factory=dict)
    masks: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __rich__(self) -> RenderableType:
        table = Table("", "images", title="data")
        for title, counts in (("", self.counts), ("mask: ", self.masks), ("size: ", self.sizes)):
            for name, count in counts.items():
                table.add_row(f"{title}{name}", str(count))
            table.add_section()
        lines = [*(f"note: {note}" for note in self.notes), *(f"problem: {text}" for text in self.problems)]
        return Group(table, *map(Text, lines), Text(self.verdict))

    @property
    def verdict(self) -> str:
        """The number of problems in words."""
        return {0: "no problem", 1: "1 problem"}.get(len(self.problems), f"{len(self.problems)} problems")
