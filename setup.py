"""Lets pip run CMakeLists.txt, which alone says what is compiled and how."""

import importlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

# Without build isolation an old Python or setuptools may run this file, and would fail later in obscure ways.
if sys.version_info < (3, 10):  # noqa: UP036
    raise SystemExit(f"vtadl-ext needs Python 3.10 or newer, but this is {sys.version.split()[0]}")
if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1):
    raise SystemExit(
        f"setuptools 70.1 or newer is needed to build vtadl-ext, but this is {setuptools.__version__}: "
        'pip install "setuptools>=70.1"'
    )


def find_tool(package: str, folder: str) -> str:
    """The path of cmake or ninja: that of its Python package, or else the one on the PATH."""
    try:
        return str(Path(getattr(importlib.import_module(package), folder)) / package)
    except ImportError:
        found = shutil.which(package)
    if found is None:
        raise SystemExit(f"{package} is needed to build vtadl-ext: pip install {package}")
    return found


class CMakeBuild(build_ext):
    """Configures and builds the one CMake target, in a folder that later builds reuse."""

    def build_extension(self, ext: Extension) -> None:
        cmake, ninja = find_tool("cmake", "CMAKE_BIN_DIR"), find_tool("ninja", "BIN_DIR")
        folder = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        configure = [
            *(cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DVTADL_CUDA={os.environ.get('VTADL_CUDA', 'AUTO')}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        build = [cmake, "--build", str(folder), "--target", ext.name.rpartition(".")[2]]
        if "MAX_JOBS" in os.environ:
            build += ["--parallel", os.environ["MAX_JOBS"]]
        install = [cmake, "--install", str(folder), "--prefix", str(output)]
        for command in (configure, build, install):
            if subprocess.run(command).returncode:
                raise SystemExit(f"building vtadl-ext failed; the messages above say why ({command[0]})")


setup(ext_modules=[Extension("vtadl_ext._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
