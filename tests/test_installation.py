"""Failures of building and importing: each ends in one clear sentence."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(command, folder, **environment):
    """With these environment variables, and without those that are None."""
    environment = os.environ | environment
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
    )


def import_after(statements, folder):
    return run([sys.executable, "-c", f"{statements}\nimport vtadl_ext"], folder, PYTHONPATH=str(ROOT))


def test_without_pytorch_the_import_says_what_to_install(tmp_path):
    result = import_after("import sys; sys.modules['torch'] = None", tmp_path)
    assert result.returncode == 1
    assert result.stderr.endswith("ImportError: vtadl_ext needs PyTorch 2.10 or newer: pip install torch\n")


def test_with_an_old_pytorch_the_import_says_what_to_upgrade(tmp_path):
    result = import_after(
        "from torch import torch_version as v; v.__version__ = v.TorchVersion('2.9.1')", tmp_path
    )
    assert result.returncode == 1
    assert result.stderr.endswith(
        "ImportError: vtadl_ext needs PyTorch 2.10 or newer, but this is 2.9.1: upgrade torch\n"
    )


@pytest.fixture
def configure(tmp_path):
    """Runs CMake on the project with these settings; returns all that it printed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [shutil.which("cmake", path=path), "-G", "Ninja", "-S", ROOT, "-B", tmp_path / "build"]

    def run_cmake(*settings, **environment):
        interpreter = f"-DPython_EXECUTABLE={sys.executable}"
        result = run([*command, interpreter, *settings], tmp_path, PATH=path, **environment)
        assert result.returncode == 1
        return " ".join((result.stdout + result.stderr).split())

    return run_cmake


def fake_torch(folder, code):
    (folder / "torch.py").write_text(code)
    return str(folder)


def without_pybind11(folder):
    (folder / "pybind11.py").write_text("raise SystemExit(1)")
    return str(folder)


def test_without_a_compiler_the_build_says_so(configure):
    assert "no working C++ compiler was found on the PATH or through CXX" in configure(CXX="/no/compiler")


def test_a_compiler_that_was_not_found_is_looked_for_again(configure, tmp_path):
    assert "no working C++ compiler" in configure(CXX="/no/compiler")
    printed = configure("-DVTADL_CUDA=OFF", PYTHONPATH=without_pybind11(tmp_path))
    assert "no working C++ compiler" not in printed
    assert "pip install pybind11" in printed


def test_without_pytorch_the_build_says_what_to_install(configure, tmp_path):
    path = fake_torch(tmp_path, "raise ModuleNotFoundError('No module named torch')")
    printed = configure("-DVTADL_CUDA=OFF", PYTHONPATH=path)
    assert f"{sys.executable} cannot import: install torch >= 2.10 there first" in printed
    assert "No module named torch" in printed


def test_with_an_old_pytorch_the_build_says_what_to_upgrade(configure, tmp_path):
    path = fake_torch(tmp_path, "__version__ = '2.9.1+cpu'")
    printed = configure("-DVTADL_CUDA=OFF", PYTHONPATH=path)
    assert f"needs torch >= 2.10 to build, but {sys.executable} has 2.9.1+cpu: upgrade torch" in printed


def test_without_pybind11_the_build_says_what_to_install(configure, tmp_path):
    printed = configure("-DVTADL_CUDA=OFF", PYTHONPATH=without_pybind11(tmp_path))
    assert f"{sys.executable} lacks it: pip install pybind11" in printed


def test_without_pythons_headers_the_build_says_what_to_install(configure):
    printed = configure("-DVTADL_CUDA=OFF", "-DPython_INCLUDE_DIR=/no/headers")
    assert f"The headers of {sys.executable} are needed to build vtadl-ext" in printed


def test_without_nvcc_a_build_that_insists_on_cuda_says_so(configure):
    printed = configure("-DVTADL_CUDA=ON", CUDACXX="/no/nvcc")
    assert "VTADL_CUDA=ON, but no working nvcc was found on the PATH or through CUDACXX" in printed


needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="this machine has no nvcc")


@needs_nvcc
def test_an_nvcc_that_was_not_found_is_looked_for_again(configure, tmp_path):
    path = without_pybind11(tmp_path)
    assert "CUDA kernels: none" in configure(CUDACXX="/no/nvcc", PYTHONPATH=path)
    assert "CUDA kernels: nvcc" in configure("-DVTADL_CUDA=ON", CUDACXX=None, PYTHONPATH=path)


# Tells CMake that it is another release, and is the nvcc that was found otherwise.
OLD_NVCC = """#!/bin/sh
arguments=
for argument; do
  case "$argument" in
  *CMakeCUDACompilerId.cu)
    sed 's/DEC(__CUDACC_VER_MAJOR__)/DEC(11)/; s/DEC(__CUDACC_VER_MINOR__)/DEC(8)/' "$argument" > old.cu
    argument=old.cu ;;
  esac
  arguments="$arguments $argument"
done
exec {nvcc} $arguments
"""


@needs_nvcc
def test_with_an_old_nvcc_a_build_that_insists_on_cuda_says_so(configure, tmp_path):
    wrapper = tmp_path / "nvcc"
    wrapper.write_text(OLD_NVCC.format(nvcc=shutil.which("nvcc")))
    wrapper.chmod(0o755)
    printed = configure("-DVTADL_CUDA=ON", CUDACXX=str(wrapper))
    assert "VTADL_CUDA=ON, but nvcc 11.8" in printed
    assert "is older than 12.0" in printed


@needs_nvcc
def test_cards_newer_than_all_architectures_find_ptx(configure, tmp_path):
    printed = configure(PYTHONPATH=without_pybind11(tmp_path), TORCH_CUDA_ARCH_LIST=None, CUDAARCHS=None)
    architectures = re.search(r"CUDA kernels: nvcc \S+ for (\S+)", printed)[1].split(";")
    newest = max(int(name.partition("-")[0]) for name in architectures)
    assert f"{newest}-virtual" in architectures


@needs_nvcc
def test_a_wrong_choice_of_architectures_is_named(configure):
    printed = configure(TORCH_CUDA_ARCH_LIST="9.0;hopper")
    assert 'TORCH_CUDA_ARCH_LIST holds "hopper"; write for example "8.0;9.0+PTX"' in printed


def test_a_wrong_choice_of_cuda_is_named(configure):
    assert 'VTADL_CUDA is "yes"; it must be AUTO, ON or OFF' in configure("-DVTADL_CUDA=yes")


RUN_SETUP = """
import sys
from types import SimpleNamespace
sys.modules.update(cmake=SimpleNamespace(CMAKE_BIN_DIR=""), ninja=SimpleNamespace(BIN_DIR=""))
{statement}
__file__, sys.argv = sys.argv[1], ["setup.py", "build_ext"]
exec(open(__file__).read())
"""


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("sys.modules['cmake'] = None", "cmake is needed to build vtadl-ext: pip install cmake"),
        ("sys.modules['ninja'] = None", "ninja is needed to build vtadl-ext: pip install ninja"),
        (
            "import setuptools; setuptools.__version__ = '65.5.0'",
            "setuptools 70.1 or newer is needed to build vtadl-ext, but this is 65.5.0: pip install",
        ),
        (
            "import setuptools.command.build_ext; sys.version_info, sys.version = (3, 9, 18), '3.9.18 (x)'",
            "vtadl-ext needs Python 3.10 or newer, but this is 3.9.18",
        ),
    ],
    ids=["cmake", "ninja", "setuptools", "python"],
)
def test_what_the_build_lacks_is_one_sentence(statement, message, tmp_path):
    code = RUN_SETUP.format(statement=statement)
    result = run([sys.executable, "-c", code, ROOT / "setup.py"], tmp_path, PATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(message)
