"""The conditions that the results of a run depend on."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import cpuinfo
import torch

import vtadl_ext

_PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "pytorch-msssim",
    "torchmetrics",
    "kornia",
    "scikit-image",
    "scikit-learn",
    "pykeops",
    "fused-ssim",
    "fussim",
    "anomalib",
)


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": _commit(),
        "device": device.type,
        "machine": platform.machine(),
        "system": platform.platform(),
        "cpu": cpuinfo.get_cpu_info().get("brand_raw", platform.processor()),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "gpu": gpu and gpu.name,
        "gpu_capability": gpu and f"{gpu.major}.{gpu.minor}",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "vtadl_ext": dict(vtadl_ext.build_info()),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the clone, with a plus if files differ from it; None outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12", "--dirty=+"]
    command += ["--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
