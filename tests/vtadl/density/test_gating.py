import torch

from vtadl.density.gating import Gate


def test_the_gate_sees_no_more_than_the_bottleneck():
    gate = Gate(8, (2, 2), (4, 4))
    gate.resize(3)
    torch.nn.init.normal_(gate.loadings)
    assert gate(torch.randn(5, 8)).shape == (5, 16, 3)
