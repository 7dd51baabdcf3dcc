"""What README.md shows, run."""

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.splitlines()[0])
def test_the_readme_trains_a_mixture_density_network(code: str):
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(code, names)
    # The two branches carry log 2 nats; their noise has std 0.05, which the network has to find.
    assert names["loss"].item() < -0.3
