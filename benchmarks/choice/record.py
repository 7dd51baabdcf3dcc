"""The file of results, which a repeated command continues."""

import json
from pathlib import Path
from typing import Any

from benchmarks.choice.regret import Qualities
from vtadl.common.files import atomic_path
from vtadl.errors import InputError


class Record:
    """Qualities by data set and seed, written whenever one is added."""

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        """Reads the file, if there is one.

        Raises:
            InputError: If the file holds results of other settings.
        """
        self.path, self.settings = path, settings
        self.results: dict[str, dict[str, Qualities]] = {}
        if path is not None and path.is_file():
            written = json.loads(path.read_text())
            if written["settings"] != settings:
                raise InputError(
                    f"{path} holds results of other settings: {written['settings']}, not {settings}"
                )
            self.results = written["results"]

    def has(self, name: str, seed: int) -> bool:
        return str(seed) in self.results.get(name, {})

    def add(self, name: str, seed: int, qualities: Qualities) -> None:
        self.results.setdefault(name, {})[str(seed)] = qualities
        if self.path is not None:
            with atomic_path(self.path) as temporary:
                temporary.write_text(
                    json.dumps({"settings": self.settings, "results": self.results}, indent=1) + "\n"
                )

    def runs(self, name: str, seeds: int) -> list[Qualities]:
        return [self.results[name][str(seed)] for seed in range(seeds)]
