"""Logs as JSON, one object a line, with the ids that tell whose work a line is about."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

from common.settings import settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
account_id: ContextVar[str | None] = ContextVar("account_id", default=None)
batch_id: ContextVar[str | None] = ContextVar("batch_id", default=None)

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
        return json.dumps(line, default=str, ensure_ascii=False)


def configure() -> None:
    """Sends every log record of this process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=settings().log_level, handlers=[handler], force=True)
    # RQ tells of every ticket, and the model client of every call: neither names work, so neither is worth a line.
    for chatty in ("rq", "rq.worker", "httpx2", "httpcore2", "openai", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(settings().log_level)))
