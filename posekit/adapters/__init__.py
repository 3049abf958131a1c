"""One file per annotation format; each yields Instance records."""

from posekit.adapters.base import Adapter, EmptyImage, Instance, adapter
from posekit.adapters.contract import check_instance
from posekit.adapters.registry import ADAPTERS, get_adapter

__all__ = [
    "ADAPTERS",
    "Adapter",
    "EmptyImage",
    "Instance",
    "adapter",
    "check_instance",
    "get_adapter",
]
