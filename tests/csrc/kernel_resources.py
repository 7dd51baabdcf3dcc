"""What ptxas says of every CUDA kernel: registers, shared memory, spills. Fails where a kernel spills.

python kernel_resources.py NVCC INCLUDE_FOLDER... -- SOURCE...
"""

import re
import subprocess
import sys
import tempfile

ARCHITECTURES = ("sm_90",)
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def report_of(nvcc: str, includes: list[str], source: str, architecture: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        command = [
            nvcc,
            "-std=c++17",
            "-O3",
            f"-arch={architecture}",
            "-cubin",
            "-Xptxas=-v",
            "-o",
            cubin.name,
        ]
        command += [f"-I{folder}" for folder in includes]
        result = subprocess.run([*command, source], capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return result.stderr


def demangled(name: str) -> str:
    text = subprocess.run(["c++filt", name], capture_output=True, text=True).stdout.strip()
    found = re.search(r"\w+<[^(]*>(?=\()", text)
    return found[0] if found else text


def main() -> None:
    nvcc, *rest = sys.argv[1:]
    split = rest.index("--")
    includes, sources = rest[:split], rest[split + 1 :]
    spilling, kernels = [], 0
    print(f"{'kernel':56} {'arch':6} registers  static shared  stack  spill stores  spill loads")
    for source in sources:
        for architecture in ARCHITECTURES:
            blocks = ENTRY.split(report_of(nvcc, includes, source, architecture))[1:]
            for name, arch, text in zip(blocks[::3], blocks[1::3], blocks[2::3], strict=True):
                stack, stores, loads = map(int, SPILLS.search(text).groups())
                shared = SHARED.search(text)
                registers, kernel = USED.search(text)[1], demangled(name)
                print(
                    f"{kernel:56} {arch:6} {registers:>9} {shared[1] if shared else 0:>14} {stack:>6} "
                    f"{stores:>13} {loads:>12}"
                )
                kernels += 1
                if stack or stores or loads:
                    spilling.append(f"{kernel} for {arch}")
    if spilling or not kernels:
        sys.exit(
            f"kernels that use local memory: {', '.join(spilling)}" if spilling else "no kernel was found"
        )


if __name__ == "__main__":
    main()
