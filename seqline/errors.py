"""The error that every mistake of a user raises."""

from pipeline.core.errors import UserError

__all__ = ["UserError"]
