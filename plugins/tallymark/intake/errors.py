"""The error that rejects input."""

from tallymark.settings import Limit


class RejectedError(ValueError):
    """An object is rejected as a whole. The message is the reason, for the producer.

    Args:
        limit: the limit that the object exceeds, if that is the reason.
    """

    def __init__(self, reason: str, limit: Limit | None = None):
        super().__init__(reason)
        self.limit = limit
