"""A compiler launcher: it runs nvcc and keeps what ptxas reports of each kernel beside the object, as .ptxas.

python record_ptxas.py NVCC... -Xptxas=-v -o OBJECT
"""

import subprocess
import sys
from pathlib import Path


def is_info(line: str) -> bool:
    return line.startswith("ptxas info") or "bytes stack frame" in line


def main() -> None:
    command = sys.argv[1:]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    lines = done.stderr.splitlines(keepends=True)
    sys.stderr.writelines(line for line in lines if not is_info(line))
    if "-o" in command:
        record = Path(command[command.index("-o") + 1]).with_suffix(".ptxas")
        record.write_text("".join(filter(is_info, lines)))
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
