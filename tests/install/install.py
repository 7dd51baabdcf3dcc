"""Installs vtadl-ext in several ways, each into a fresh virtual environment, and runs the operators there.

    python tests/install/install.py                             with the torch of constraints.txt
    python tests/install/install.py wheel --torch 2.10 newest   one wheel under other releases
    python tests/install/install.py tree --python python3.13    another interpreter
    python tests/install/install.py --matrix --operator-tests   all that docs/install.md lists

sdist and wheel are those in dist/ (`make sdist wheel`); the other ways install from the sdist, unpacked, so
that this tree's build stays as it is. Other releases of torch than that of constraints.txt come from the
package index, where each is a CUDA build of several GB, as is the one that
`isolated` builds against. What came out of each way is printed, and written to build/test-install.json; the
table of docs/install.md comes last.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "test-install.json"
# One place for all: a compiler cache knows the files again.
ENVIRONMENT = ROOT / "build" / "test-install"
TREE = ROOT / "build" / "test-install-tree"
SDIST = "vtadl_ext-*.tar.gz"
BUILD_TOOLS = ["pybind11", "cmake", "ninja", "setuptools>=70.1"]
TEST_TOOLS = ["pytest", "hypothesis", "expecttest", "onnxruntime", "onnxscript"]
PINNED, NEWEST = "pinned", "newest"  # the release of torch in constraints.txt, and that of the package index
WAYS = ("tree", "editable", "sdist", "wheel", "isolated", "uv")
USUAL_WAYS = ("tree", "editable", "sdist", "wheel")

# Interpreter, way, release of torch. Every way once; one wheel under every torch; the oldest and the newest
# torch to build with.
MATRIX = (
    ("python3.11", "wheel", PINNED),
    ("python3.11", "wheel", "2.10"),
    ("python3.11", "wheel", "2.11"),
    ("python3.11", "wheel", NEWEST),
    ("python3.11", "editable", PINNED),
    ("python3.11", "isolated", PINNED),
    ("python3.11", "uv", PINNED),
    ("python3.10", "tree", "2.10"),
    ("python3.12", "sdist", "2.11"),
    ("python3.13", "tree", NEWEST),
)


@dataclass
class Result:
    way: str
    python: str
    torch: str
    seconds: float  # of installing vtadl-ext, where all that it builds with is there
    megabytes: float  # of vtadl_ext
    environment_megabytes: int
    says: str  # what check_operators.py printed
    operator_tests: str | None = None  # pytest's last line


def run(*command: str | Path, **options: object) -> str:
    """Its standard output. Stops at the first failure, with all that the command printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment, **options
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nfailed: {' '.join(map(str, command))}")
    return done.stdout


def make_environment(python: str, torch: str, way: str) -> Path:
    """A virtual environment with torch and what a build without isolation needs; returns its interpreter."""
    run(python, "-m", "venv", "--clear", ENVIRONMENT)
    interpreter = ENVIRONMENT / "bin" / "python"
    wanted = {
        PINNED: ["torch", "--constraint", ROOT / "constraints.txt"],
        NEWEST: ["torch"],
    }.get(torch, [f"torch=={torch}.*"])
    if way not in ("wheel", "isolated"):
        wanted += BUILD_TOOLS
    if way == "uv":
        wanted.append("uv")
    run(interpreter, "-m", "pip", "install", "--quiet", "numpy", *wanted)
    return interpreter


def newest_file(pattern: str) -> Path:
    found = sorted((ROOT / "dist").glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"dist/ has no {pattern}: run `make sdist wheel` first")
    return found[-1]


def unpack_tree() -> Path:
    shutil.rmtree(TREE, ignore_errors=True)
    shutil.unpack_archive(newest_file(SDIST), TREE, filter="data")
    (folder,) = TREE.iterdir()
    return folder


def install(way: str, interpreter: Path) -> None:
    command = [interpreter, "-m", "pip", "install"]
    if way == "uv":
        command = [interpreter, "-m", "uv", "pip", "install", "--python", interpreter]
    if way == "wheel":
        tag = run(interpreter, "-c", "import sys; print('cp{}{}'.format(*sys.version_info))").strip()
        run(*command, newest_file(f"vtadl_ext-*-{tag}-*.whl"))
        return
    if way != "isolated":
        command.append("--no-build-isolation")
    if way == "editable":
        command.append("--editable")
    run(*command, newest_file(SDIST) if way == "sdist" else unpack_tree())


def run_operator_tests(interpreter: Path, patterns: list[str]) -> str:
    """pytest's last line. Comparisons with other libraries are left out: those bring a torch of their own."""
    run(interpreter, "-m", "pip", "install", "--quiet", *TEST_TOOLS)
    with tempfile.TemporaryDirectory() as folder:  # away from the source tree's vtadl_ext/
        shutil.copytree(ROOT / "tests" / "ops", Path(folder) / "ops")
        tests = sorted({path for pattern in patterns for path in Path(folder, "ops").glob(pattern)})
        tests = [path for path in tests if path.name != "test_ssim_libraries.py"]
        options = ["-q", "--import-mode=importlib", "--no-header", "-p", "no:cacheprovider"]
        return run(interpreter, "-m", "pytest", *options, *tests, cwd=folder).splitlines()[-1]


def size_of(folder: Path) -> float:
    """In megabytes."""
    return sum(file.lstat().st_size for file in folder.rglob("*")) / 1e6


def try_way(way: str, python: str, torch: str, operator_tests: list[str] | None) -> Result:
    interpreter = make_environment(python, torch, way)
    start = time.monotonic()
    install(way, interpreter)
    seconds = round(time.monotonic() - start, 1)
    check = ROOT / "tests" / "install" / "check_operators.py"
    says = run(interpreter, check, cwd=ENVIRONMENT).strip()
    tests = run_operator_tests(interpreter, operator_tests) if operator_tests else None
    version = run(interpreter, "--version").split()[1]
    where = "import vtadl_ext; print(vtadl_ext.__path__[0])"
    megabytes = round(size_of(Path(run(interpreter, "-c", where, cwd=ENVIRONMENT).strip())), 1)
    installed_torch = says.split(",")[0].removeprefix("torch ")
    size = round(size_of(ENVIRONMENT))
    shutil.rmtree(ENVIRONMENT)
    return Result(way, version, installed_torch, seconds, megabytes, size, says, tests)


def table(results: list[Result]) -> Iterator[str]:
    yield "| way | Python | PyTorch | seconds | MB of vtadl_ext | MB of the environment | operator tests |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for x in results:
        cells = (x.way, x.python, x.torch, f"{x.seconds:.0f}", x.megabytes, x.environment_megabytes)
        yield f"| {' | '.join(map(str, cells))} | {x.operator_tests or 'not run'} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Installs vtadl-ext in several ways and runs the operators.")
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--torch", nargs="+", default=[PINNED], help="releases, for example 2.10 or newest")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--matrix", action="store_true", help="the combinations of docs/install.md instead")
    parser.add_argument(
        "--operator-tests", nargs="*", metavar="FILE", help="run tests/ops as well, or these files of it"
    )
    chosen = parser.parse_args()
    for way in chosen.ways:
        if way not in WAYS:
            parser.error(f"{way!r} is no way to install: choose from {', '.join(WAYS)}")
    return chosen


def combinations(chosen: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Interpreter, way and torch; of the matrix, those whose interpreter this machine has."""
    if not chosen.matrix:
        yield from (
            (python, way, torch)
            for python in chosen.python
            for torch in chosen.torch
            for way in chosen.ways or USUAL_WAYS
        )
        return
    for python, way, torch in MATRIX:
        found = shutil.which(python)
        if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            yield found, way, torch
        else:
            print(f"{python} was not found: {way} with torch {torch} is left out")


def main() -> None:
    chosen = arguments()
    tests = None if chosen.operator_tests is None else chosen.operator_tests or ["test_*.py"]
    results = []
    RESULTS.parent.mkdir(exist_ok=True)
    for python, way, torch in combinations(chosen):
        results.append(try_way(way, python, torch, tests))
        print(json.dumps(asdict(results[-1]), indent=1), flush=True)
        RESULTS.write_text(json.dumps([asdict(result) for result in results], indent=1))
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
