"""The base class of errors that a user can fix."""


class UserError(Exception):
    """An error that the user can fix. Its message says what went wrong and what to do."""
