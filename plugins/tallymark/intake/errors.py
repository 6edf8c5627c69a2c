"""Why input cannot be used."""

from tallymark.settings import Limit


class RejectedError(ValueError):
    """An object cannot be used at all; the message says why, in words for the producer.

    Args:
        limit: the limit that it exceeds; None: it is not about a limit.
    """

    def __init__(self, reason: str, limit: Limit | None = None):
        super().__init__(reason)
        self.limit = limit
