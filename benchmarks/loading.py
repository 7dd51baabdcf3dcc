"""`python -m benchmarks.loading`: whether reading image files keeps up with the detector on this machine."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data as photographs
from torch import Tensor

from benchmarks.network import SMALL, TINY, Sizes, as_key, detector
from vtadl.data import Folder

COLUMNS = ("files", "pixels", "loading", "training", "training from files", "predicting", "from files")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--images", type=int, default=192, help="of each kind (%(default)s)")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024], help="of the files, in pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes that read (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="next to nothing, only to see that it runs")
    options = parser.parse_args()
    if options.smoke:
        options.images, options.sides, options.workers = 4, [32], 0
    table = Table(*COLUMNS, title=f"images per second, {torch.get_num_threads()} threads")
    for suffix in ("jpg", "png"):
        for side in options.sides:
            with tempfile.TemporaryDirectory() as folder:
                write_photographs(Path(folder), suffix, side, options.images)
                rates = measure(Path(folder), as_key(TINY if options.smoke else SMALL), options.workers)
            table.add_row(suffix, f"{side} x {side}", *(f"{rate:.0f}" for rate in rates))
    Console().print(table)


def write_photographs(folder: Path, suffix: str, side: int, count: int) -> None:
    """A photograph, shifted a little from file to file."""
    photograph = torch.from_numpy(photographs.astronaut())
    for index in range(count):
        image = Image.fromarray(photograph.roll((7 * index, 11 * index), (0, 1)).numpy())
        image.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:04d}.{suffix}")


def measure(folder: Path, sizes: Sizes, workers: int) -> list[float]:
    """Images per second of loading, and of training and predicting from memory and from files."""
    module = detector(sizes, torch.float32, torch.device("cpu"))
    data = Folder(str(folder), image_size=module.network.image_size, workers=workers)
    data.setup("fit")
    loader = data.train_dataloader()
    from_files = lambda: (batch["image"] for batch in loader)  # noqa: E731
    images = next(iter(from_files()))
    from_memory = lambda: [images] * len(loader)  # noqa: E731
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)

    def train(images: Tensor) -> None:
        optimizer.zero_grad()
        module.loss(images, module.network.train()(images)).total.backward()
        optimizer.step()

    def predict(images: Tensor) -> None:
        with torch.inference_mode():
            module.eval()(images)

    return [
        rate(from_files, lambda images: None),
        *(rate(source, work) for work in (train, predict) for source in (from_memory, from_files)),
    ]


def rate(source: Callable[[], Iterable[Tensor]], work: Callable[[Tensor], None]) -> float:
    """Images per second of the better of two passes."""
    best = 0.0
    for _ in range(2):
        start, count = time.perf_counter(), 0
        for images in source():
            work(images)
            count += len(images)
        best = max(best, count / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
