"""Compares the dictionary of vtadl with PatchCore and PaDiM, on the same features, images and machine.

Every method gets the same features of a frozen network, which are computed once. All maps have the size of
the images and the smoothing of the detector, so that only the density differs. PatchCore and PaDiM are those
of anomalib, which is not a part of this project; without it, only the methods of vtadl are measured.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.detection import report
from benchmarks.detection.comparison import Category, Result, measure, read_images
from benchmarks.detection.method import Method
from benchmarks.detection.own import ChosenExperts, Gaussians, KnownFeatures
from benchmarks.environment import environment
from vtadl.errors import InputError
from vtadl.features.backbones import make_backbone
from vtadl.features.cache import compute_features

LOCAL = Path(__file__).parents[1] / "results" / "local"


def main() -> None:
    try:
        _run(_parser().parse_args())
    except InputError as error:
        sys.exit(str(error))


def _run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    size = (arguments.image_size, arguments.image_size)
    network = KnownFeatures(
        make_backbone(arguments.backbone, size, arguments.backbone_layers, arguments.backbone_size)
    )
    results: list[Result] = []
    features_per_cpu_second: dict[str, float] = {}
    conditions = {
        "environment": environment(torch.device("cpu"), arguments.threads),
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "features_per_cpu_second": features_per_cpu_second,
    }
    for name in arguments.categories:
        category, features_per_cpu_second[name] = _prepare(
            arguments.root, name, arguments.image_size, network
        )
        for method in _methods(network, size, arguments.coresets, arguments.seed):
            results.append(measure(method, category))
            written = list(report.write(results, conditions, arguments.output))
            print(results[-1], flush=True)
    print(report.markdown(results), *(f"written: {path}" for path in written), sep="\n")


def _prepare(root: Path, name: str, image_size: int, network: KnownFeatures) -> tuple[Category, float]:
    """Reads a category and computes its features; returns it with the images per CPU second."""
    train, test = read_images(root, name, image_size)
    network.forget()
    start = time.process_time()
    features = [compute_features(network, images) for images in (train, test["image"])]
    rate = (len(train) + len(test["image"])) / (time.process_time() - start)
    for images, own in zip((train, test["image"]), features, strict=True):
        network.remember(images, own)
    return Category(name, train, features[0], test, features[1]), rate


def _methods(
    network: KnownFeatures, size: tuple[int, int], coresets: list[float], seed: int
) -> Iterator[Method]:
    """The methods, none of which has been fitted; those of anomalib only if it is installed."""
    yield Gaussians(network)
    yield ChosenExperts(network, size)
    try:
        from benchmarks.detection.anomalib_methods import PaDiM, PatchCore
    except ImportError as error:
        print(f"PatchCore and PaDiM are left out: {error}. `pip install 'anomalib[cpu]>=2.7'` installs them.")
        return
    yield PaDiM(network.grid, seed)
    for coreset in coresets:
        yield PatchCore(network.grid, coreset, seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the categories of MVTec AD")
    parser.add_argument("--categories", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--backbone", default="efficientnet-lite0", help="as for `vtadl fit` (%(default)s)")
    parser.add_argument("--backbone-layers", nargs="+", type=int, help="by default those in the middle")
    parser.add_argument("--backbone-size", type=int, help="side of the images that the backbone sees")
    parser.add_argument("--image-size", type=int, default=256, help="side of images and maps (%(default)s)")
    parser.add_argument(
        "--coresets",
        nargs="*",
        type=float,
        default=[0.01, 0.1],
        metavar="FRACTION",
        help="fractions of the normal features that PatchCore keeps (%(default)s); their choice takes long",
    )
    parser.add_argument("--seed", type=int, default=0, help="of coresets and random channels (%(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=LOCAL, help="folder of the results (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
