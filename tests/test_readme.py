"""The Python code in README.md runs, and computes what the text beside it says."""

import re
from pathlib import Path

import torch

from vtadl_ext import reference

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_the_code_in_the_readme_computes_a_likelihood_and_an_index_with_their_gradients():
    torch.manual_seed(0)
    names: dict[str, torch.Tensor] = {}
    for block in BLOCKS:  # one after the other, as a reader would type them
        exec(block, names)
    mixture = names["logits"], names["mu"], names["log_std"]
    torch.testing.assert_close(names["loss"], reference.gmm_nll(names["x"], *mixture))
    torch.testing.assert_close(names["index"], reference.ssim(names["noisy"], names["image"]))
    for leaf in (*mixture, names["noisy"]):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.any()
    equal = names["image"], names["image"]
    assert reference.ssim(*equal) == 1
