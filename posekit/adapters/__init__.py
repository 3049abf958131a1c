"""One file per annotation format; each yields Instance records."""

from posekit.adapters.base import Adapter, EmptyImage, Instance
from posekit.adapters.contract import check_instance
from posekit.adapters.registry import get_adapter, known_adapters

__all__ = ["Adapter", "EmptyImage", "Instance", "check_instance", "get_adapter", "known_adapters"]
