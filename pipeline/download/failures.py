"""Exceptions for addresses that give no file."""


class DownloadError(Exception):
    """An address that gives no file, with the reason for a message."""


class BudgetSpent(DownloadError):
    """An address that is not asked, or not any longer, because its source has spent its budget."""
