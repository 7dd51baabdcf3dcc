"""Checks a built wheel: what it holds, how large it is, and what its binary asks of the loader.

python tests/install/check_wheel.py dist/vtadl_ext-*.whl
"""

import argparse
import io
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from elftools.elf.elffile import ELFFile

LARGEST = 20e6  # bytes
BINARY = "vtadl_ext/_C.*.so"
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "vtadl_ext", ROOT / "python" / "vtadl")
SUFFIXES = (".py", ".pyi", ".typed", ".yaml", ".html")
FOLDERS = ("vtadl/", "vtadl_ext/", "vtadl_ext-*.dist-info/")
OF_TORCH = {"libtorch.so", "libtorch_cpu.so"}
OF_THE_SYSTEM = {
    *("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"),
    *("libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
}
UNSTABLE = ("_ZN3c10", "_ZNK3c10", "_ZN2at", "_ZNK2at", "_ZN5torch", "_ZNK5torch")  # namespaces, mangled


def complaints(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        yield from complaints_about_contents(names)
        for name in names:
            if fnmatch(name, BINARY):
                yield from complaints_about_binary(ELFFile(io.BytesIO(wheel.read(name))))
    if path.stat().st_size > LARGEST:
        yield f"it has {path.stat().st_size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}"
    if "manylinux" not in path.name:
        yield "its tag is not manylinux: run auditwheel repair"


def complaints_about_contents(names: list[str]) -> Iterator[str]:
    for pattern in (BINARY, "vtadl_ext-*.dist-info/licenses/LICENSE"):
        if not any(fnmatch(name, pattern) for name in names):
            yield f"{pattern} is missing"
    for package in PACKAGES:
        for path in package.rglob("*"):
            name = path.relative_to(package.parent).as_posix()
            if path.suffix in SUFFIXES and name not in names:
                yield f"{name} is missing"
    for name in names:
        if not any(fnmatch(name, folder + "*") for folder in FOLDERS):
            yield f"{name} does not belong there"


def complaints_about_binary(binary: ELFFile) -> Iterator[str]:
    tags = list(binary.get_section_by_name(".dynamic").iter_tags())
    needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
    for library in sorted(OF_TORCH - needed):
        yield f"the binary does not name {library}, so the loader may not find PyTorch's symbols"
    for library in sorted(needed - OF_TORCH - OF_THE_SYSTEM):
        yield f"the binary needs {library}"
    if any(tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH") for tag in tags):
        yield "the binary has a path to libraries of the machine it was built on"
    for symbol in binary.get_section_by_name(".dynsym").iter_symbols():
        if symbol.entry.st_shndx == "SHN_UNDEF" and symbol.name.startswith(UNSTABLE):
            yield f"the binary uses {symbol.name}, which is outside LibTorch's stable ABI"


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks a built wheel.")
    parser.add_argument("wheel", type=Path)
    path = parser.parse_args().wheel
    found = list(complaints(path))
    if found:
        sys.exit("\n".join(f"{path.name}: {complaint}" for complaint in found))
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, nothing to complain about")


if __name__ == "__main__":
    main()
