"""Runs clang-tidy on every source in csrc, once each: the build compiles some of them several times.

python tidy.py BUILD_FOLDER      with a compile_commands.json
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def first_commands(commands: list[dict[str, str]]) -> list[dict[str, str]]:
    """The first command of each source in csrc, which is that of the library."""
    first: dict[str, dict[str, str]] = {}
    for command in commands:
        if (ROOT / "csrc") in Path(command["file"]).parents:
            first.setdefault(command["file"], command)
    return list(first.values())


def tidy(file: str, database: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["clang-tidy", "--quiet", f"-p={database}", file], capture_output=True, text=True, cwd=ROOT
    )
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    commands = first_commands(json.loads((folder / "compile_commands.json").read_text()))
    database = folder / "tidy"
    database.mkdir(exist_ok=True)
    (database / "compile_commands.json").write_text(json.dumps(commands))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda command: tidy(command["file"], database), commands))
    for _, output in results:
        print(output, end="")
    sys.exit(any(status for status, _ in results))


if __name__ == "__main__":
    main()
