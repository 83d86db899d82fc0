"""A JSON object fetched from the operator's own services: in so many seconds and so many bytes at most."""

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from common import json_text

MAX_BYTES = 256 * 1024


class FetchFailed(Exception):
    """What is wrong, as a sentence for the operator's log."""


def fetch_json(url: str, seconds: float) -> Mapping[str, Any]:
    """What the URL answers. No redirect is followed. Raises FetchFailed."""
    fetched: Future[Mapping[str, Any]] = Future()
    # The library has a time for each piece alone, and a name may take its own to be looked up.
    threading.Thread(target=_fetch, args=(url, seconds, fetched), name="fetch", daemon=True).start()
    try:
        return fetched.result(seconds)
    except TimeoutError:
        raise FetchFailed(f"{url} did not answer within {seconds:g} s") from None


def _fetch(url: str, seconds: float, fetched: "Future[Mapping[str, Any]]") -> None:
    try:
        fetched.set_result(_read(url, seconds))
    # Whatever it is, it is for whoever waits.
    except BaseException as error:
        fetched.set_exception(error)


def _read(url: str, seconds: float) -> Mapping[str, Any]:
    until = time.monotonic() + seconds
    content = b""
    try:
        with urllib.request.build_opener(_NoRedirect()).open(url, timeout=seconds) as response:
            while len(content) <= MAX_BYTES and time.monotonic() < until and (piece := response.read1(MAX_BYTES)):
                content += piece
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FetchFailed(f"{url} could not be fetched: {error}") from None
    if len(content) > MAX_BYTES:
        raise FetchFailed(f"{url} answers with over {MAX_BYTES} bytes")
    try:
        found = json_text.loads(content)
    except ValueError:
        raise FetchFailed(f"{url} does not answer with JSON") from None
    if not isinstance(found, dict):
        raise FetchFailed(f"{url} does not answer with a JSON object")
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None
