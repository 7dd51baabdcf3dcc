import pytest
import torch

from vtadl.metrics import DetectionMetrics, detection_figures


def test_figures_match_values_computed_by_hand():
    # Positives 0.4 and 0.8 against negatives 0.1 and 0.6: three of four pairs are in order.
    figures = detection_figures(torch.tensor([0.1, 0.4, 0.6, 0.8]), torch.tensor([0, 1, 0, 1]))
    assert figures["auroc"] == pytest.approx(3 / 4)
    assert figures["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_equal_scores_count_half():
    assert detection_figures(torch.tensor([0.5, 0.5]), torch.tensor([0, 1]))["auroc"] == pytest.approx(0.5)


def test_large_scores_keep_their_order():
    figures = detection_figures(torch.tensor([100.0, 101.0, 102.0, 103.0]), torch.tensor([0, 0, 1, 1]))
    assert figures["auroc"] == 1


def test_one_class_alone_has_no_figures():
    assert detection_figures(torch.rand(3), torch.zeros(3, dtype=torch.int)) == {}


def test_batches_add_up_and_images_without_a_known_mask_stay_out_of_the_pixel_figures():
    metrics = DetectionMetrics()
    maps = torch.tensor([[0.0, 0.0], [0.1, 0.9], [5.0, 5.0]]).view(3, 1, 1, 2)
    masks = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).view(3, 1, 1, 2)
    for index, known in enumerate([True, True, False]):
        batch = slice(index, index + 1)
        label = torch.tensor([int(index > 0)])
        metrics.update(torch.tensor([float(index)]), label, maps[batch], masks[batch], torch.tensor([known]))
    figures = metrics.compute()
    assert figures["image_auroc"] == figures["pixel_auroc"] == 1
    assert set(figures) == {
        f"{kind}_{name}" for kind in ("image", "pixel") for name in ("auroc", "average_precision")
    }


def test_without_any_marked_pixel_only_image_figures_remain():
    metrics = DetectionMetrics()
    zeros = torch.zeros(2, 1, 2, 2)
    metrics.update(torch.tensor([0.0, 1.0]), torch.tensor([0, 1]), zeros, zeros, torch.tensor([True, False]))
    assert set(metrics.compute()) == {"image_auroc", "image_average_precision"}
