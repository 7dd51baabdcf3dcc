"""Modules in replicas that DistributedDataParallel keeps synchronised."""

import weakref
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parallel import DistributedDataParallel

_wrappers: "weakref.WeakKeyDictionary[nn.Module, weakref.ref[DistributedDataParallel]]" = (
    weakref.WeakKeyDictionary()
)


def watch(kind: type[nn.Module]) -> None:
    """Records from now on which DistributedDataParallel wraps each module of this kind."""

    def record(module: nn.Module, name: str, submodule: Any) -> None:
        if isinstance(module, DistributedDataParallel) and isinstance(submodule, nn.Module):
            for part in submodule.modules():
                if isinstance(part, kind):
                    _wrappers[part] = weakref.ref(module)

    register_module_module_registration_hook(record)


def through_replicas(module: nn.Module) -> nn.Module:
    """The module to call instead of this one: itself, or the DistributedDataParallel around it.

    Gradients are synchronised only after a forward pass of the wrapper. A method that is called without it,
    as `ddp.module.method()`, would train replicas that drift apart.
    """
    # The compiler traces modules inside their wrapper.
    wrapper = None if torch.compiler.is_compiling() else _wrappers.get(module, lambda: None)()
    if wrapper is None or not _is_bypassed(wrapper) or not _is_trained(module):
        return module
    if wrapper.module is module:
        return wrapper
    raise RuntimeError(
        f"this {type(module).__name__} is part of a module under DistributedDataParallel, which does not "
        "synchronise the gradients of calls from outside: call it in the forward of that module"
    )


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _is_bypassed(wrapper: DistributedDataParallel) -> bool:
    """Whether a call now would leave gradients that the wrapper should synchronise, but does not know of."""
    in_backward = (
        torch._C._current_graph_task_id() != -1
    )  # torch.utils.checkpoint computes forward passes there
    return (
        torch.is_grad_enabled()
        and not in_backward
        and wrapper.require_backward_grad_sync
        and getattr(DistributedDataParallel, "_active_ddp_module", wrapper) is not wrapper
        and torch.distributed.get_world_size(wrapper.process_group) > 1
    )
