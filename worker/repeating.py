"""What a process does again and again beside its work, each in a thread of its own."""

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)


def repeat(act: Callable[[], None], first: float, seconds: float, ended: threading.Event) -> None:
    """Runs it after `first` seconds, and from then on every `seconds`, until the event."""
    arguments = (act, first, seconds, ended)
    threading.Thread(target=_run, args=arguments, name=act.__name__, daemon=True).start()


def _run(act: Callable[[], None], first: float, seconds: float, ended: threading.Event) -> None:
    pause = first
    while not ended.wait(pause):
        pause = seconds
        try:
            act()
        except (SQLAlchemyError, RedisError) as error:
            log.warning("%s failed; it runs again", act.__qualname__, extra={"error": str(error)})
        # Whatever it is: without this thread every lease of the process would end.
        except Exception:
            log.exception("%s failed; it runs again", act.__qualname__)
