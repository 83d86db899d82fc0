"""What can go wrong with a stack. Every message says what happened and what to do."""


class StackError(Exception):
    """The stack cannot start, or cannot go on."""


class AlreadyRunning(StackError):
    """Another stack runs in this home."""


class StopRequested(StackError):
    """Someone asked the stack to stop while it was still starting."""
