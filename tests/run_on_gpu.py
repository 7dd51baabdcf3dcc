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
from pathlib import Path

import torch

SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")


def run(name: str, command: list[str]) -> dict[str, object]:
    print(f"== {name}", flush=True)
    start = time.monotonic()
    status = subprocess.run(command).returncode
    return {"name": name, "status": status, "seconds": round(time.monotonic() - start, 1)}


def run_operator_tests(junit: Path) -> dict[str, object]:
    tests = str(Path(__file__).parent / "ops")
    result = run(
        "operators", [sys.executable, "-m", "pytest", "-q", "-k", "cuda", f"--junitxml={junit}", tests]
    )
    counts = ElementTree.parse(junit).getroot()[0].attrib
    return result | {key: int(counts[key]) for key in ("tests", "failures", "errors", "skipped")}


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("make test-gpu needs a GPU that this PyTorch can use; torch.cuda.is_available() is False")
    if sys.argv[1:] == ["architecture"]:
        print("{}.{}".format(*torch.cuda.get_device_capability()))
        return
    import vtadl_ext  # not yet built when the architecture is asked for

    program, output = sys.argv[1], Path(sys.argv[2])
    results = [run("kernels", [program])]
    sanitizer = shutil.which("compute-sanitizer")
    for tool in SANITIZER_TOOLS if sanitizer else ():
        results.append(
            run(f"kernels under {tool}", [sanitizer, "--tool", tool, "--error-exitcode", "1", program])
        )
    results.append(run_operator_tests(output.with_suffix(".xml")))
    report = {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "vtadl_ext": vtadl_ext.build_info(),
        "compute_sanitizer": sanitizer is not None,
        "results": results,
    }
    temporary = output.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(temporary, output)
    print(f"written to {output}")
    sys.exit(any(result["status"] for result in results))


if __name__ == "__main__":
    main()
