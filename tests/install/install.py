"""Installs vtadl-ext in several ways, each into a fresh virtual environment, and runs the operators there.

    python tests/install/install.py                             with the torch of constraints.txt
    python tests/install/install.py wheel --torch 2.10 2.11     one wheel under other releases
    python tests/install/install.py tree --python python3.13    another interpreter

sdist and wheel are those in dist/ (`make sdist wheel`). Other releases of torch than that of constraints.txt
come from the package index, where each is a CUDA build of several GB, as is the one that
`isolated` builds against. What came out of each way is printed, and written to build/test-install.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build" / "test-install.json"
ENVIRONMENT = ROOT / "build" / "test-install"  # one place for all: a compiler cache knows the headers again
BUILD_TOOLS = ["pybind11", "cmake", "ninja", "setuptools>=70.1"]
TEST_TOOLS = ["pytest", "hypothesis", "expecttest"]
PINNED = "pinned"  # the release of torch in constraints.txt
WAYS = ("tree", "editable", "sdist", "wheel", "isolated", "uv")
USUAL_WAYS = ("tree", "editable", "sdist", "wheel")


@dataclass
class Result:
    way: str
    python: str
    torch: str
    seconds: float  # of installing vtadl-ext, where all that it builds with is there
    megabytes: int  # of the environment
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
    wanted = ["numpy", "torch", "--constraint", ROOT / "constraints.txt"]
    if torch != PINNED:
        wanted = ["numpy", f"torch=={torch}.*"]
    if way not in ("wheel", "isolated"):
        wanted += BUILD_TOOLS
    if way == "uv":
        wanted.append("uv")
    run(interpreter, "-m", "pip", "install", "--quiet", *wanted)
    return interpreter


def newest(pattern: str) -> Path:
    found = sorted((ROOT / "dist").glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"dist/ has no {pattern}: run `make sdist wheel` first")
    return found[-1]


def install(way: str, interpreter: Path) -> None:
    command = [interpreter, "-m", "pip", "install"]
    if way == "uv":
        command = [interpreter, "-m", "uv", "pip", "install", "--python", interpreter]
    if way == "wheel":
        tag = run(interpreter, "-c", "import sys; print('cp{}{}'.format(*sys.version_info))").strip()
        run(*command, newest(f"vtadl_ext-*-{tag}-*.whl"))
    elif way == "isolated":
        run(*command, ROOT)
    elif way == "editable":
        run(*command, "--no-build-isolation", "--editable", ROOT)
    else:
        run(*command, "--no-build-isolation", newest("vtadl_ext-*.tar.gz") if way == "sdist" else ROOT)


def run_operator_tests(interpreter: Path) -> str:
    """pytest's last line. Comparisons with other libraries are left out: those bring a torch of their own."""
    run(interpreter, "-m", "pip", "install", "--quiet", *TEST_TOOLS)
    with tempfile.TemporaryDirectory() as folder:  # away from the source tree's vtadl_ext/
        shutil.copytree(ROOT / "tests" / "ops", Path(folder) / "ops")
        ignored = f"--ignore={folder}/ops/test_ssim_libraries.py"
        options = ["-q", "--import-mode=importlib", "--no-header", "-p", "no:cacheprovider", ignored]
        return run(interpreter, "-m", "pytest", *options, "ops", cwd=folder).splitlines()[-1]


def try_way(way: str, python: str, torch: str, operator_tests: bool) -> Result:
    interpreter = make_environment(python, torch, way)
    start = time.monotonic()
    install(way, interpreter)
    seconds = round(time.monotonic() - start, 1)
    check = ROOT / "tests" / "install" / "check_operators.py"
    says = run(interpreter, check, cwd=ENVIRONMENT).strip()
    tests = run_operator_tests(interpreter) if operator_tests else None
    version = run(interpreter, "--version").strip()
    size = sum(file.lstat().st_size for file in ENVIRONMENT.rglob("*"))
    shutil.rmtree(ENVIRONMENT)
    return Result(way, version, torch, seconds, size // 10**6, says, tests)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Installs vtadl-ext in several ways and runs the operators.")
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--torch", nargs="+", default=[PINNED], help="releases, for example 2.10")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environments")
    parser.add_argument("--operator-tests", action="store_true", help="run tests/ops as well")
    chosen = parser.parse_args()
    for way in chosen.ways:
        if way not in WAYS:
            parser.error(f"{way!r} is no way to install: choose from {', '.join(WAYS)}")
    return chosen


def main() -> None:
    chosen = arguments()
    results = []
    for torch in chosen.torch:
        for way in chosen.ways or USUAL_WAYS:
            result = try_way(way, chosen.python, torch, chosen.operator_tests)
            print(json.dumps(asdict(result), indent=1), flush=True)
            results.append(asdict(result))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
