"""What the local stack says when it cannot start or go on."""


class StackError(Exception):
    """A reason, written for the person at the terminal, why the local stack cannot run."""
