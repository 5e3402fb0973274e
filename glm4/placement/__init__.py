"""Which part of a model lies on which device. Only `hooks` needs accelerate, and only a spread model needs `hooks`."""

from .devices import one_device
from .plan import DISK, DeviceMap, Plan, Spot, everything_on, plan_placement
from .table import Placement, placement_of

__all__ = [
    "DISK",
    "DeviceMap",
    "Placement",
    "Plan",
    "Spot",
    "everything_on",
    "one_device",
    "placement_of",
    "plan_placement",
]
