"""The error of the local stack."""


class StackError(Exception):
    """The local stack cannot run. The message is a reason for a person at the terminal."""
