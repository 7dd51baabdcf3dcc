"""`python -m benchmarks.loading` measures whether reading image files keeps up with the detector."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from rich.table import Table
from skimage import data as photographs
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.network import SMALL, TINY, Sizes, as_key, detector
from benchmarks.table import wide_console
from vtadl.data import Folder, Sample

RATES = (
    "reading",
    "training",
    "training while reading",
    "training, images kept",
    "predicting",
    "predicting while reading",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--images", type=int, default=192, help="of each kind (%(default)s)")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024], help="of the files, in pixels")
    parser.add_argument("--workers", type=int, default=2, help="processes that read (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="a few tiny files, only to see that it runs")
    options = parser.parse_args()
    if options.smoke:
        options.images, options.sides, options.workers = 4, [32], 0
    table = Table("files", "pixels", *RATES, title=f"images per second, {torch.get_num_threads()} threads")
    for suffix in ("jpg", "png"):
        for side in options.sides:
            with tempfile.TemporaryDirectory() as folder:
                write_photographs(Path(folder), suffix, side, options.images)
                rates = measure(Path(folder), as_key(TINY if options.smoke else SMALL), options.workers)
            table.add_row(suffix, f"{side} x {side}", *(f"{rate:.0f}" for rate in rates))
    wide_console().print(table)


def write_photographs(folder: Path, suffix: str, side: int, count: int) -> None:
    """A photograph, shifted a little from file to file."""
    photograph = torch.from_numpy(photographs.astronaut())
    for index in range(count):
        image = Image.fromarray(photograph.roll((7 * index, 11 * index), (0, 1)).numpy())
        image.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:04d}.{suffix}")


def measure(folder: Path, sizes: Sizes, workers: int) -> list[float]:
    """Images per second for each name in `RATES`; training and predicting take images from memory first."""
    module = detector(sizes, torch.float32, torch.device("cpu"))
    loaders = [_loader(folder, module.network.image_size, workers, cache_gb) for cache_gb in (0.0, 1.0)]
    reading, kept = (partial(_images, loader) for loader in loaders)
    images = next(reading())
    given = lambda: [images] * len(loaders[0])  # noqa: E731
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)

    def train(images: Tensor) -> None:
        optimizer.zero_grad()
        module.loss(images, module.network.train()(images)).total.backward()
        optimizer.step()

    def predict(images: Tensor) -> None:
        with torch.inference_mode():
            module.eval()(images)

    return [
        rate(reading, lambda images: None),
        *(rate(source, train) for source in (given, reading, kept)),
        *(rate(source, predict) for source in (given, reading)),
    ]


def _loader(folder: Path, size: tuple[int, int], workers: int, cache_gb: float) -> DataLoader[Sample]:
    data = Folder(str(folder), image_size=size, workers=workers, cache_gb=cache_gb)
    data.setup("fit")
    return data.train_dataloader()


def _images(loader: DataLoader[Sample]) -> Iterator[Tensor]:
    return (batch["image"] for batch in loader)


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
