import json
import multiprocessing

import numpy as np
import pytest
import torch
import torch.distributed as dist
from rich.console import Console
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_f1_score

from vtadl.errors import InputError
from vtadl.metrics import DetectionMetrics
from vtadl.metrics.functional import auroc, average_precision, f1_max

NAMES = {
    f"{kind}_{name}" for kind in ("image", "pixel") for name in ("auroc", "average_precision", "f1_max")
} | {"aupro", "aupro_0.05"}


def counts(scores, labels):
    """Counts negatives and positives at each distinct score, in descending order."""
    different = np.unique(scores)[::-1]
    return (
        np.array([np.sum((scores == score) & (labels == label)) for score in different], dtype=float)
        for label in (0, 1)
    )


def make_batches(batches=4, size=4, height=24, width=32):
    """Yields random maps in which marked pixels score higher; one image in four has no known mask."""
    rng = np.random.default_rng(0)
    for _ in range(batches):
        masks = np.zeros((size, 1, height, width), np.float32)
        for image in range(1, size, 2):
            row, column = rng.integers(0, 12, 2)
            masks[image, 0, row : row + 5, column : column + 7] = 1
            masks[image, 0, row + 5 : row + 8, column + 7 : column + 9] = 1  # touches at a corner
        maps = rng.normal(size=masks.shape).astype(np.float32) + masks
        labels = torch.from_numpy(masks.any((1, 2, 3)).astype(np.int64))
        known = torch.arange(size) != size - 1
        maps, masks = torch.from_numpy(maps), torch.from_numpy(masks)
        yield maps.amax((1, 2, 3)), labels, maps, masks, known, ["good", "dent", "good", "hole"]


def evaluated(batches):
    metrics = DetectionMetrics()
    for batch in batches:
        metrics.update(*batch)
    return metrics


def test_metrics_match_values_computed_by_hand():
    # Positives 0.4 and 0.8 against negatives 0.1 and 0.6: three of four pairs are in order.
    negatives, positives = np.array([0.0, 1, 0, 1]), np.array([1.0, 0, 1, 0])
    assert auroc(negatives, positives) == pytest.approx(3 / 4)
    assert average_precision(negatives, positives) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert f1_max(negatives, positives) == pytest.approx(2 * 2 / (3 + 2))


def test_equal_scores_are_one_threshold():
    one = np.array([1.0])
    assert auroc(one, one) == 0.5
    assert average_precision(one, one) == 0.5
    assert f1_max(one, one) == pytest.approx(2 / 3)


@pytest.mark.parametrize("levels", [3, 1000])
def test_metrics_agree_with_torchmetrics(levels):
    rng = np.random.default_rng(levels)
    scores, labels = rng.integers(0, levels, 300) / levels, rng.integers(0, 2, 300)
    negatives, positives = counts(scores, labels)
    predictions, target = torch.from_numpy(scores), torch.from_numpy(labels)
    assert auroc(negatives, positives) == pytest.approx(binary_auroc(predictions, target).item())
    expected = binary_average_precision(predictions, target).item()
    assert average_precision(negatives, positives) == pytest.approx(expected)
    f1 = [binary_f1_score((predictions >= score).int(), target).item() for score in np.unique(scores)]
    assert f1_max(negatives, positives) == pytest.approx(max(f1))


def test_leading_dimensions_are_independent_evaluations():
    rng = np.random.default_rng(0)
    negatives, positives = rng.integers(0, 5, (2, 3, 40)).astype(float)
    for metric in (auroc, average_precision, f1_max):
        alone = [metric(*rows).item() for rows in zip(negatives, positives, strict=True)]
        assert metric(negatives, positives).tolist() == pytest.approx(alone)


def test_image_metrics_are_exact_and_pixel_metrics_are_within_the_stated_bound():
    batches = list(make_batches())
    scores, labels, maps, masks, known = (torch.cat([batch[part] for batch in batches]) for part in range(5))
    values = evaluated(batches).compute()
    assert set(values) == NAMES
    order = scores.unique(return_inverse=True)[1] / len(scores)
    assert values["image_auroc"] == pytest.approx(binary_auroc(order, labels).item(), abs=1e-6)
    pixels, marked = maps[known].flatten(), masks[known].flatten().long()
    order = pixels.unique(return_inverse=True)[1].double() / pixels.numel()
    assert values["pixel_auroc"] == pytest.approx(binary_auroc(order, marked).item(), abs=1e-4)
    expected = binary_average_precision(order, marked).item()
    assert values["pixel_average_precision"] == pytest.approx(expected, abs=1e-4)


def test_the_order_of_batches_and_their_size_make_no_difference():
    batches = list(make_batches())
    single = [[part[i : i + 1] for part in batch] for batch in reversed(batches) for i in range(4)]
    assert evaluated(batches).compute() == pytest.approx(evaluated(single).compute(), abs=1e-12)


def test_merging_histograms_early_changes_nothing(monkeypatch):
    expected = evaluated(make_batches()).compute()
    monkeypatch.setattr("vtadl.metrics.detection.MIN_PENDING_ROWS", 10)
    metrics = evaluated(make_batches())
    assert len(metrics.pixel_counts) < 4
    assert metrics.compute() == pytest.approx(expected, abs=1e-6)


def test_one_class_alone_has_no_metrics():
    batch = next(make_batches())
    metrics = evaluated([[part[:1] for part in batch]])
    assert metrics.compute() == {}
    assert metrics.evaluate(n_resamples=5).kinds == {}


def test_without_any_marked_pixel_only_image_metrics_remain():
    zeros = torch.zeros(2, 1, 2, 2)
    metrics = DetectionMetrics()
    metrics.update(torch.tensor([0.0, 1.0]), torch.tensor([0, 1]), zeros, zeros, torch.tensor([True, False]))
    assert set(metrics.compute()) == {"image_auroc", "image_average_precision", "image_f1_max"}
    assert set(metrics.evaluate(n_resamples=5).intervals) == set(metrics.compute())


@pytest.mark.parametrize("part", [0, 2])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_score_that_is_not_finite_is_refused(part, value):
    batch = next(make_batches())
    batch[part].view(-1)[0] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        DetectionMetrics().update(*batch)


def test_the_table_compares_each_kind_with_all_normal_images():
    batches = list(make_batches())
    kinds = evaluated(batches).evaluate(n_resamples=5).kinds
    assert set(kinds) == {"dent", "hole"}
    assert kinds["dent"]["images"] == 4
    chosen = torch.tensor([True, True, True, False])
    without_holes = [
        [part[chosen] if isinstance(part, torch.Tensor) else part[:3] for part in batch] for batch in batches
    ]
    expected = evaluated(without_holes).compute()
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        assert kinds["dent"][name] == pytest.approx(expected[name], abs=2e-3)
    assert set(kinds["hole"]) == {"images", "image_auroc"}  # none of its masks is known


def test_images_above_the_threshold_are_counted_and_printed():
    zeros = torch.zeros(5, 1, 2, 2)
    metrics = DetectionMetrics()
    labels = torch.tensor([0, 0, 1, 1, 1])
    metrics.update(torch.tensor([0.0, 3.0, 2.0, 3.0, 4.0]), labels, zeros, zeros, labels == 2)
    evaluation = metrics.evaluate(threshold=2.0, n_resamples=5)
    assert evaluation.detected == {"anomalous": 3, "hits": 2, "normal": 2, "false_alarms": 1}
    console = Console(record=True)
    console.print(evaluation)
    text = console.export_text()
    assert "at the threshold 2 of 3 anomalous images are detected" in text
    assert "at the threshold 1 of 2 normal images are false alarms" in text
    assert metrics.evaluate(n_resamples=5).detected == {}


def test_intervals_contain_the_metrics_and_depend_on_the_seed_alone():
    metrics = evaluated(make_batches(8))
    evaluation = metrics.evaluate(n_resamples=200)
    assert set(evaluation.intervals) == NAMES
    for name, (low, high) in evaluation.intervals.items():
        assert 0 <= low < high <= 1
        assert low <= evaluation.metrics[name] + 1e-3
        assert evaluation.metrics[name] <= high + 1e-3
    assert metrics.evaluate(n_resamples=200).intervals == evaluation.intervals
    assert metrics.evaluate(n_resamples=200, seed=1).intervals != evaluation.intervals
    json.dumps(evaluation.as_dict(), allow_nan=False)


def test_an_interval_is_as_wide_as_resampling_whole_images_makes_it():
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(np.concatenate([rng.normal(0, 1, 50), rng.normal(1, 1, 70)]).astype(np.float32))
    labels = torch.tensor([0] * 50 + [1] * 70)
    metrics = DetectionMetrics()
    metrics.update(scores, labels, torch.zeros(120, 1, 1, 1), torch.zeros(120, 1, 1, 1), labels == 2)
    low, high = metrics.evaluate(n_resamples=2000).intervals["image_auroc"]
    drawn = []
    for _ in range(2000):
        below, above = rng.choice(scores[:50], 50), rng.choice(scores[50:], 70)
        drawn.append((above[:, None] > below).mean() + 0.5 * (above[:, None] == below).mean())
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)


def test_areas_under_the_curves_are_the_metrics():
    evaluation = evaluated(make_batches()).evaluate(n_resamples=5)
    assert set(evaluation.curves) == {"image_roc", "image_pr", "pixel_roc", "pixel_pr", "pro"}
    for kind in ("image", "pixel"):
        curve = evaluation.curves[f"{kind}_roc"]
        assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(evaluation.metrics[f"{kind}_auroc"], abs=2e-3)
    fpr = np.linspace(0, 0.3, 10_000)
    overlap = np.interp(fpr, *evaluation.curves["pro"])
    assert overlap.mean() == pytest.approx(evaluation.metrics["aupro"], abs=2e-3)
    recall, precision = (np.array(values) for values in evaluation.curves["pixel_pr"])
    steps = np.diff(recall, prepend=0)
    assert (steps * precision).sum() == pytest.approx(evaluation.metrics["pixel_average_precision"], abs=0.02)


def test_memory_hardly_grows_with_the_number_of_maps():
    metrics, maps, sizes = DetectionMetrics(), torch.randn(2, 1, 512, 512), []
    for _ in range(4):
        metrics.update(torch.rand(2), torch.tensor([0, 1]), maps, (maps > 3).float(), torch.ones(2).bool())
        metrics._compact()
        sizes.append(sum(tensor.nbytes for name in metrics._defaults for tensor in getattr(metrics, name)))
    assert all(0 < growth < 0.03 * maps.nbytes for growth in np.diff(sizes))


def evaluate_in_process(rank, folder):
    torch.set_num_threads(1)  # the threads of the parent process do not exist here
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    batches = list(make_batches())
    metrics = evaluated(
        batches[:3] if rank == 0 else batches[3:]
    )  # the processes get different numbers of images
    evaluation = metrics.evaluate(n_resamples=20).as_dict()
    (folder / f"{rank}.json").write_text(json.dumps(evaluation))
    dist.destroy_process_group()


def test_two_processes_evaluate_like_one(tmp_path):
    context = multiprocessing.get_context("fork")  # the forked process has already imported everything
    ranks = [context.Process(target=evaluate_in_process, args=(rank, tmp_path)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=300)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    expected = evaluated(make_batches()).evaluate(n_resamples=20)
    assert first["figures"] == pytest.approx(expected.metrics, abs=1e-6)
    assert first["images"] == 16
    for name, interval in expected.intervals.items():
        assert first["intervals"][name] == pytest.approx(interval, abs=1e-6)
