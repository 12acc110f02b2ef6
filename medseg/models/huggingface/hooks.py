"""Hooks of transformers' networks that can't be pickled, and their first convolution."""

from __future__ import annotations

from torch import nn

_FLAG = "_output_capturing_hooks_installed"
_MODULE = "transformers.utils.output_capturing"


def release(net: nn.Module) -> None:
    """Remove the hooks with which transformers collects hidden states; it installs them again when it needs them.

    They are local functions, which neither pickle nor distributed training by spawning can send.
    """
    for module in net.modules():
        if getattr(module, _FLAG, False):
            setattr(module, _FLAG, False)
        for key, hook in list(module._forward_hooks.items()):
            if getattr(hook, "__module__", "") == _MODULE:
                del module._forward_hooks[key]


def first_convolution(net: nn.Module) -> str:
    """Name of the kernel that takes the image."""
    return next(f"{name}.weight" for name, module in net.named_modules() if isinstance(module, nn.Conv2d))
