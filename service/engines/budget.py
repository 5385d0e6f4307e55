"""How many second tries a process may make. It knows nothing of what is tried."""

__all__ = ["RetryBudget"]


class RetryBudget:
    """A bucket of second tries that requests fill: when much fails, little is tried twice.

    Without it, retries multiply the load on what is failing already.

    + share: second tries that each request earns
    + most: how many can be saved up, and how many there are at first
    """

    def __init__(self, share: float = 0.1, most: float = 10.0) -> None:
        self._share = share
        self._most = most
        self._saved = most

    def earn(self) -> None:
        """Count a request."""
        self._saved = min(self._most, self._saved + self._share)

    def spend(self) -> bool:
        """Take a second try, if one is left."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
