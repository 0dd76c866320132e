"""Why an address gives no file."""


class Failed(Exception):
    """An address that gives no file, with the reason for a message."""


class BudgetSpent(Failed):
    """An address that may not be asked, or not any longer, since its source has spent its budget."""
