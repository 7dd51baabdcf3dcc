"""`MixtureHead` in two processes: its likelihood never trains replicas that drift apart."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from vtadl_ext import MixtureHead

ROWS = 8


class Net(nn.Module):
    def __init__(self, checkpointed=False):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(5, 8), MixtureHead(8, 3, 4)
        self.checkpointed = checkpointed

    def forward(self, x, features):
        h = self.body(features).tanh()
        return (
            checkpoint(self.head.nll, x, h, use_reentrant=False) if self.checkpointed else self.head.nll(x, h)
        )


def data():
    torch.manual_seed(1)
    return torch.randn(ROWS, 3), torch.randn(ROWS, 5), torch.randn(ROWS, 8)


def of_rank(*tensors):
    return [tensor.chunk(2)[dist.get_rank()] for tensor in tensors]


def new_head():
    torch.manual_seed(0)
    return MixtureHead(8, 3, 4)


def gradients(module):
    return {
        name: getattr(p.grad, "full_tensor", lambda p=p: p.grad)() for name, p in module.named_parameters()
    }


def assert_as_in_one_process(module, expected):
    for name, grad in gradients(module).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-5, atol=1e-6)


def expected_of(module, *tensors):
    module(*tensors).backward()
    return gradients(module)


def heads_are_synchronised():
    x, _, h = data()
    expected = expected_of(new_head(), h, x)
    mine_x, mine_h = of_rank(x, h)
    for call in (
        lambda ddp: ddp(mine_h, mine_x),
        lambda ddp: ddp.module.nll(mine_x, mine_h),
        lambda ddp: -ddp.module.log_prob(mine_x, mine_h).mean(),
    ):
        ddp = DistributedDataParallel(new_head())
        call(ddp).backward()
        assert_as_in_one_process(ddp.module, expected)


def parts_are_synchronised_or_refused():
    x, features, h = data()
    for checkpointed in (False, True):
        expected = expected_of(Net(), x, features)
        ddp = DistributedDataParallel(Net(checkpointed))
        ddp(*of_rank(x, features)).backward()
        assert_as_in_one_process(ddp.module, expected)
    with pytest.raises(
        RuntimeError, match=r"^this MixtureHead is part of a module under DistributedDataParallel"
    ):
        ddp.module.head.nll(x, h)
    with torch.no_grad():
        ddp.module.head.nll(x, h)
    with ddp.no_sync():
        ddp.module.head.nll(x, h).backward()


def shards_work():
    x, features, _ = data()
    expected = expected_of(Net(), x, features)
    mesh = init_device_mesh("cpu", (2,))
    for parts in ((lambda net: net.head,), ()):
        net = Net()
        for part in parts:
            fully_shard(part(net), mesh=mesh)
        fully_shard(net, mesh=mesh)
        net(*of_rank(x, features)).backward()
        assert_as_in_one_process(net, expected)


def run(rank, rendezvous):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)
    heads_are_synchronised()
    parts_are_synchronised_or_refused()
    shards_work()
    dist.destroy_process_group()
    os._exit(0)  # PyTorch's threads may end the process with an error if Python ends first


def test_replicas_and_shards_train_as_one_process_does(tmp_path):
    mp.spawn(run, (tmp_path / "rendezvous",), 2)


def test_without_replicas_nothing_stands_between():
    x, features, h = data()
    head = new_head()
    head.nll(x, h).backward()
    assert head.weight.grad.any()
    net = Net()
    net.head.nll(x, h).backward()
    net(x, features).backward()
