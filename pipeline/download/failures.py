"""Exceptions of addresses that cannot be downloaded."""


class DownloadError(Exception):
    """An address that cannot be downloaded, with the reason for a message."""


class BudgetSpent(DownloadError):
    """An address that is not downloaded further, because its source's budget is spent."""
