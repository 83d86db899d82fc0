"""The provider's own addresses, under /_sim/: settings and counts. They need no key."""

import json
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError

from local.provider import errors
from local.provider.answer import as_json
from local.provider.behaviour import Behaviours
from local.provider.calls import Calls
from local.provider.errors import Error
from local.provider.limits import Limits
from local.provider.reply import Reply, Request

PREFIX = b"/_sim/"
LEAST_HASH_DIGITS = 16


class Admin:
    def __init__(self, behaviours: Behaviours, calls: Calls, limits: Limits) -> None:
        self._behaviours = behaviours
        self._calls = calls
        self._limits = limits

    def reply(self, request: Request) -> Reply:
        method = request.method.decode("latin-1")
        path = unquote(request.path.decode("latin-1"))
        collection, _, name = path.removeprefix(PREFIX.decode()).partition("/")
        match (method, collection, name):
            case ("GET", "settings", ""):
                return self._settings()
            case ("PUT" | "POST", "settings", ""):
                return self._set(method, request.body)
            case ("GET", "calls", ""):
                return Reply(200, as_json(self._calls.summary()))
            case ("GET", "calls", digits):
                return self._calls_of(digits)
            case ("GET", "jobs", job) if job:
                return Reply(200, as_json(self._calls.of_job(job)))
            case ("GET", "repeated", ""):
                return Reply(200, as_json(self._calls.repeated()))
            case ("POST", "reset", ""):
                self._calls.reset()
                self._limits.reset()
                return Reply(200, as_json(self._calls.summary()))
        return errors.no_address(method, path).reply()

    def _settings(self) -> Reply:
        return Reply(200, as_json(self._behaviours.settings.model_dump()))

    def _set(self, method: str, body: bytes) -> Reply:
        try:
            values = json.loads(body or b"{}")
            if not isinstance(values, dict):
                raise ValueError("the settings are a JSON object")
            if method == "PUT":
                self._behaviours.replace(values)
            else:
                self._behaviours.change(values)
        except ValidationError as invalid:
            problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in invalid.errors()]
            return Error(400, "; ".join(problems)).reply()
        except (ValueError, RecursionError) as invalid:
            return Error(400, str(invalid)).reply()
        self._limits.reset()
        return self._settings()

    def _calls_of(self, digits: str) -> Reply:
        if len(digits) < LEAST_HASH_DIGITS:
            return Error(400, f"a hash is {LEAST_HASH_DIGITS} or more hex digits of the body's sha256").reply()
        try:
            found: dict[str, Any] = self._calls.of_body(digits)
        except ValueError:
            return Error(400, "a hash is hex digits, an even number of them").reply()
        return Reply(200, as_json(found))
