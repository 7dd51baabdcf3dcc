import pytest
import torch

from vtadl.metrics import CategoryEvaluations, CategoryMetrics, DetectionMetrics


def batch(count, seed, marked=True):
    """Returns the tensors of a batch, in the order of `CategoryMetrics.update`."""
    generator = torch.Generator().manual_seed(seed)
    scores, maps = torch.rand(count, generator=generator), torch.rand(count, 1, 4, 4, generator=generator)
    labels = torch.arange(count) % 2
    masks = (torch.rand(count, 1, 4, 4, generator=generator) > 0.5) * labels.view(-1, 1, 1, 1) * marked
    return scores, labels, maps, masks, torch.ones(count, dtype=torch.bool), scores


def kinds_of(labels):
    return ["dent" if label else "good" for label in labels]


def test_the_metrics_of_a_category_are_those_of_its_images_alone():
    categories = ["nut", "bolt", "nut", "nut", "bolt", "bolt", "bolt", "nut"]
    metrics = CategoryMetrics()
    metrics.reset(["bolt", "nut"])
    parts = batch(8, seed=0)
    metrics.update(categories, kinds_of(parts[1]), *parts)
    assert metrics.num_images == 8
    for name, found in metrics.items():
        own = torch.tensor([category == name for category in categories])
        scores, labels, maps, masks, has_mask, _ = (part[own] for part in parts)
        alone = DetectionMetrics()
        alone.update(scores, labels, maps, masks, has_mask, kinds_of(labels))
        assert found.compute() == alone.compute()
        assert found.normal_brightness().tolist() == scores[labels == 0].tolist()


def test_a_category_without_images_in_a_batch_is_only_counted_elsewhere():
    metrics = CategoryMetrics()
    metrics.reset(["bolt", "nut"])
    for seed, name in enumerate(("bolt", "nut")):
        parts = batch(4, seed)
        metrics.update([name] * 4, kinds_of(parts[1]), *parts)
    assert [part.num_images for _, part in metrics.items()] == [4, 4]
    assert all(part.evaluate(n_resamples=5).num_images == 4 for _, part in metrics.items())


def test_a_mean_is_taken_over_the_categories_that_define_a_metric():
    evaluations = {}
    for seed, name in enumerate(("bolt", "nut")):
        metrics = DetectionMetrics()
        scores, labels, maps, masks, has_mask, _ = batch(6, seed, marked=name == "bolt")
        metrics.update(scores, labels, maps, masks, has_mask)
        evaluations[name] = metrics.evaluate(n_resamples=5)
    both = CategoryEvaluations(evaluations)
    bolt, nut = (evaluations[name].metrics for name in ("bolt", "nut"))
    assert both.mean["image_auroc"] == pytest.approx((bolt["image_auroc"] + nut["image_auroc"]) / 2)
    assert both.mean["aupro"] == bolt["aupro"]
    assert both.metrics["nut/image_auroc"] == nut["image_auroc"]
    assert both.as_dict()["categories"]["bolt"]["figures"] == bolt
