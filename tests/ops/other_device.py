"""Tensors on devices that this machine lacks: so PyTorch takes them, while their values lie on the CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


def register_backend(name):
    """For autograd, which asks a backend for streams and guards; PyTorch takes one for each process."""
    from torch.utils import backend_registration

    backend_registration._setup_privateuseone_for_python_backend(rename=name)


class DeviceTensor(torch.Tensor):
    """A tensor whose device is what one says, and whose operators run on `values`."""

    @staticmethod
    def __new__(cls, values, device):
        return torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=device
        )

    def __init__(self, values, device):
        self.values = values

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        raise AssertionError("Device.__torch_dispatch__ comes first")


class Device(TorchDispatchMode):
    """Within it, operators on tensors of this device run on the CPU, and new tensors of it are made there."""

    def __init__(self, name):
        super().__init__()
        self.device = torch.device(name, 0)

    def put(self, values):
        return DeviceTensor(values, self.device)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        owners = {}  # operators in place return what they were given

        def values_of(tensor):
            owners[id(tensor.values)] = tensor
            return tensor.values

        kwargs = dict(kwargs or {})
        here = any(issubclass(kind, DeviceTensor) for kind in types)
        if kwargs.get("device") is not None and kwargs["device"].type == self.device.type:
            kwargs["device"], here = torch.device("cpu"), True
        results = operator(
            *tree_map_only(DeviceTensor, values_of, args), **tree_map_only(DeviceTensor, values_of, kwargs)
        )
        if not here:
            return results
        return tree_map_only(torch.Tensor, lambda x: owners.get(id(x)) or self.put(x), results)
