"""What the doctor's tests share."""

from machines import on

__all__ = ["on"]
