"""Training with weights, gradients and optimizer shared out over devices, for models that one device cannot hold."""

from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils._pytree import tree_map

from segmenter_pl.task import SegmentationTask


class ShardedTask(SegmentationTask):
    """For Lightning's `ModelParallelStrategy`, which leaves the sharing out to the module.

    (A class of its own, because Lightning's moving averages warn of every module that has this hook.)
    """

    def configure_model(self) -> None:
        for part in self.model.children():
            if not isinstance(part, FSDPModule):
                share_out(part)


def share_out(part: nn.Module) -> None:
    """Give every device a part of each weight of a module, whose blocks are put together one at a time (FSDP2)."""
    for blocks in (one for one in part.modules() if isinstance(one, nn.ModuleList)):
        for block in blocks:
            fully_shard(block)
    part.register_forward_hook(_own_memory)
    fully_shard(part)


def _own_memory(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Outputs that are no views: FSDP warns that changes of a view would pass its hooks by."""
    return tree_map(lambda x: x.clone(), output)
