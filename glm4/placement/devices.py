"""What a caller calls a device."""

from __future__ import annotations

import torch

from ..errors import InputError


def one_device(device: object) -> torch.device:
    """The device that a name, an accelerator's number or a torch.device means; "auto" or None is one if there is one.

    Raises:
        InputError: there is no such device here.
    """
    if device is None or device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    given = device
    try:
        if isinstance(device, bool) or not isinstance(device, (str, int, torch.device)):
            raise TypeError("it is no string")
        if isinstance(device, int):
            kind = torch.accelerator.current_accelerator()
            device = torch.device("cuda" if kind is None else kind.type, device)
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no data")
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'device {given!r} cannot be used ({reason}); pass "cpu", or "auto"') from error
