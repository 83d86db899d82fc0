"""What a process makes once, also where requests ask for it at the same time.

lru_cache would make it for each of them, and nobody would close the pools of all but one.
"""

from collections.abc import Callable
from functools import update_wrapper
from threading import Lock
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Once(Generic[Made]):
    """A function without arguments that runs once and then gives what it made. An error is not kept."""

    def __init__(self, make: Callable[[], Made]) -> None:
        update_wrapper(self, make)
        self._make = make
        self._making = Lock()
        self._made: tuple[Made] | None = None

    def __call__(self) -> Made:
        made = self._made
        if made is None:
            with self._making:
                made = self._made
                if made is None:
                    made = self._made = (self._make(),)
        return made[0]

    def made(self) -> Made | None:
        """What is there already."""
        return None if self._made is None else self._made[0]

    def forget(self) -> None:
        """So that the next who asks makes it anew."""
        self._made = None
