"""How well the choice of experts generalises: each data set is judged with the procedure fixed on the others.

    python -m benchmarks.choice --root FOLDER_OF_CATEGORIES --mnist FOLDER --seeds 3 --output choice.json

The regret of a set is the quality of its best expert, which only the labels of its test tell, minus that of
what the procedure chose without them. Quality is the mean of image AUROC, pixel AUROC and AUPRO. The parts
that are drawn and the embedded photographs are always among the data sets. Results are written after each
set, and a repeated command continues where it was stopped.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.choice.judge import judge
from benchmarks.choice.record import Record
from benchmarks.choice.sets import Sets
from benchmarks.choice.table import tables
from vtadl.density import DensitySettings
from vtadl.errors import InputError


def main() -> None:
    try:
        _run(_parser().parse_args())
    except InputError as error:
        sys.exit(str(error))


def _run(options: argparse.Namespace) -> None:
    sets = Sets(options.root, options.mnist, options.image_size)
    names = options.sets or sets.names()
    record = Record(options.output, {"backbone": options.backbone, "image_size": options.image_size})
    density = DensitySettings(backbone=options.backbone)
    for name in names:
        for seed in range(options.seeds):
            if not record.has(name, seed):
                start = time.monotonic()
                record.add(name, seed, judge(sets.load(name, seed), density, seed))
                print(f"{name}, seed {seed}: {time.monotonic() - start:.0f} s", flush=True)
    print(tables({name: record.runs(name, options.seeds) for name in names}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.choice",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sets", nargs="+", help="names; 'dimmed-NAME' changes the light of the test of a set"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, of the data and of the choice")
    parser.add_argument("--root", type=Path, help="folder of categories, in the layout of MVTec AD")
    parser.add_argument("--mnist", type=Path, help="folder of the files of MNIST")
    parser.add_argument("--backbone", help="frozen network to describe images with")
    parser.add_argument("--image-size", type=int, default=256, help="of the categories, in pixels")
    parser.add_argument("--output", type=Path, help="JSON file of the qualities")
    return parser


if __name__ == "__main__":
    main()
