"""Logs as JSON, one object a line, with the ids that tell whose work a line is about."""

import json
import logging
import os
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

from common.settings import settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
account_id: ContextVar[str | None] = ContextVar("account_id", default=None)
batch_id: ContextVar[str | None] = ContextVar("batch_id", default=None)

_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger and message; the ids of the context; whatever was passed in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, variable in (("request", request_id), ("account", account_id), ("batch", batch_id)):
            if (value := variable.get()) is not None:
                line[name] = value
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class LineHandler(logging.Handler):
    """Writes each record to a file descriptor in one call. Of the lock around a stream there is no need then, and a
    thread that writes while it has one keeps all others waiting for as long as it waits for the interpreter."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def createLock(self) -> None:
        """None: what is written at once stands together."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self._descriptor, (self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        # Whatever goes wrong in logging must not end the work that is logged: as the handlers of the library do.
        except Exception:
            self.handleError(record)


def configure() -> None:
    """Sends every log record of this process to standard error as JSON."""
    handler = LineHandler(sys.stderr.fileno())
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=settings().log_level, handlers=[handler], force=True)
    # None of this is in a line, and to find it out takes longer than to write one. gunicorn's own have the process.
    logging.logThreads = logging.logMultiprocessing = False
    logging._srcfile = None
    # RQ tells of every ticket, and the model client of every call: neither names work, so neither is worth a line.
    for chatty in ("rq", "rq.worker", "httpx2", "httpcore2", "openai", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(settings().log_level)))
