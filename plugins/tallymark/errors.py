"""The errors that are for people, apart from those that are mistakes of the code."""


class UserError(Exception):
    """Somebody who runs this can set it right; the message says in plain sentences what is wrong and what to do."""
