"""Prints what ptxas reports of every CUDA kernel: registers, shared memory, spills. Fails if a kernel spills.

python kernel_resources.py OBJECT...     object files beside which cmake/record_ptxas.py has kept the reports
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


class Kernel(NamedTuple):
    name: str
    architecture: str
    registers: int
    static_shared: int
    stack: int
    spill_stores: int
    spill_loads: int

    @property
    def spills(self) -> bool:
        return bool(self.stack or self.spill_stores or self.spill_loads)


def kernels_of(text: str) -> Iterator[Kernel]:
    _, *blocks = ENTRY.split(text)
    for name, architecture, report in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
        shared = SHARED.search(report)
        spills = map(int, SPILLS.search(report).groups())
        registers, static_shared = int(USED.search(report)[1]), int(shared[1]) if shared else 0
        yield Kernel(name, architecture, registers, static_shared, *spills)


def demangled(names: list[str]) -> list[str]:
    """The names as C++ spells them, without the arguments."""
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    found = [re.search(r"\w+<[^(]*>(?=\()", line) or line for line in done.stdout.splitlines()]
    return [match if isinstance(match, str) else match[0] for match in found]


def main() -> None:
    records = [Path(path).with_suffix(".ptxas") for path in sys.argv[1:]]
    kernels = [kernel for record in records for kernel in kernels_of(record.read_text())]
    if not kernels:
        sys.exit("no kernel was found")
    names = demangled([kernel.name for kernel in kernels])
    kernels = [kernel._replace(name=name) for kernel, name in zip(kernels, names, strict=True)]
    print(f"{'kernel':56} {'arch':6} registers  static shared  stack  spill stores  spill loads")
    for kernel in kernels:
        print("{:56} {:6} {:>9} {:>14} {:>6} {:>13} {:>12}".format(*kernel))
    spilling = [f"{kernel.name} for {kernel.architecture}" for kernel in kernels if kernel.spills]
    if spilling:
        sys.exit(f"kernels that use local memory: {', '.join(spilling)}")


if __name__ == "__main__":
    main()
