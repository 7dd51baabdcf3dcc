"""`make test-gpu`: the kernels' program, alone and under compute-sanitizer, and the operators' tests, on this
machine's GPU. Writes what ran and how it ended as JSON.

    python run_on_gpu.py architecture      prints what to build for
    python run_on_gpu.py PROGRAM JSON
"""

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Of the operators' tests: each holds gigabytes of the GPU's memory.
PROCESSES = min(8, os.cpu_count() or 1)


def run(name: str, command: list[str]) -> dict[str, object]:
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = round(time.monotonic() - start, 1)
    print(f"== {name}: status {done.returncode} after {seconds} s\n{done.stdout}", flush=True)
    return {"name": name, "status": done.returncode, "seconds": seconds}


def run_operator_tests(junit: Path) -> dict[str, object]:
    tests = str(Path(__file__).parent / "ops")
    pytest = [sys.executable, "-m", "pytest", "-q", f"--numprocesses={PROCESSES}"]
    result = run("operators", [*pytest, "-k", "cuda", "-rs", "--durations=10", f"--junitxml={junit}", tests])
    counts = ElementTree.parse(junit).getroot()[0].attrib
    return result | {key: int(counts[key]) for key in ("tests", "failures", "errors", "skipped")}


def run_all(program: str, junit: Path) -> list[dict[str, object]]:
    """The program alone, then all else side by side: sanitizers leave most of a GPU idle."""
    alone = run("kernels", [program])
    sanitizer = shutil.which("compute-sanitizer")
    with ThreadPoolExecutor() as pool:
        others = [
            pool.submit(
                run, f"kernels under {tool}", [sanitizer, "--tool", tool, "--error-exitcode", "1", program]
            )
            for tool in (SANITIZER_TOOLS if sanitizer else ())
        ]
        others.append(pool.submit(run_operator_tests, junit))
        return [alone, *(other.result() for other in others)]


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("make test-gpu needs a GPU that this PyTorch can use; torch.cuda.is_available() is False")
    if sys.argv[1:] == ["architecture"]:
        print("{}.{}".format(*torch.cuda.get_device_capability()))
        return
    import vtadl_ext  # not yet built when the architecture is asked for

    program, output = sys.argv[1], Path(sys.argv[2])
    results = run_all(program, output.with_suffix(".xml"))
    report = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "vtadl_ext": vtadl_ext.build_info(),
        "compute_sanitizer": shutil.which("compute-sanitizer") is not None,
        "results": results,
    }
    temporary = output.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, output)
    print(f"written to {output}")
    sys.exit(any(result["status"] for result in results))


if __name__ == "__main__":
    main()
