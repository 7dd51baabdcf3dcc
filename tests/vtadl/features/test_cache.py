import os
from pathlib import Path

import pytest
import torch

from vtadl.features.cache import compute_features, empty
from vtadl.features.windows import Windows


@pytest.mark.parametrize("count", [1, 8, 9, 21])
@pytest.mark.parametrize("limit_gb", [4.0, 0.0])
def test_cached_features_are_those_of_the_extractor(count, limit_gb):
    windows = Windows((16, 24), 8)
    images = torch.rand(count, 3, 16, 24)
    assert torch.equal(compute_features(windows, images, limit_gb=limit_gb), windows(images))


def test_each_image_passes_the_extractor_once():
    class Counting(Windows):
        seen = 0

        def forward(self, images):
            self.seen += len(images)
            return super().forward(images)

    windows = Counting((16, 16), 8)
    compute_features(windows, torch.rand(21, 3, 16, 16))
    assert windows.seen == 21


def test_features_may_be_kept_in_half_precision():
    windows = Windows((16, 16), 8)
    images = torch.rand(10, 3, 16, 16)
    features = compute_features(windows, images, torch.float16)
    assert features.dtype == torch.float16
    torch.testing.assert_close(features.float(), windows(images), atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mappings are listed by Linux alone")
def test_a_large_tensor_is_a_file_that_disappears_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def mapped():
        return str(tmp_path) in Path("/proc/self/maps").read_text()

    small = empty((4, 5), torch.float32, limit_gb=1)
    assert not mapped()
    large = empty((4, 5), torch.float32, limit_gb=0)
    assert mapped()
    assert not os.listdir(tmp_path)
    large[2:] = 3
    assert (large.shape, large[3, 4].item()) == (small.shape, 3)
    del large
    assert not mapped()
