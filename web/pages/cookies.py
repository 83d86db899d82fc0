"""Cookies of the pages: out of scripts' reach, not sent with other sites' forms, and over TLS where there is TLS."""

from datetime import timedelta

from flask import request
from werkzeug.wrappers import Response

from common.settings import settings

# A browser takes a cookie of this name from its own host alone, and only over https (RFC 6265bis, 4.1.3.2).
HOST_PREFIX = "__Host-"


def get(name: str) -> str | None:
    return request.cookies.get(_name(name))


def put(answer: Response, name: str, value: str, life: timedelta) -> None:
    answer.set_cookie(_name(name), value, max_age=life, path="/", secure=_over_tls(), httponly=True, samesite="Lax")


def remove(answer: Response, name: str) -> None:
    answer.delete_cookie(_name(name), path="/", secure=_over_tls(), httponly=True, samesite="Lax")


def _name(name: str) -> str:
    return f"{HOST_PREFIX}{name}" if _over_tls() else name


def _over_tls() -> bool:
    return settings().public_url.startswith("https://")
