"""What an endpoint makes of a body, before anything is said about delivery."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from os import urandom
from typing import Any

from pydantic_core import to_json

from local.provider.behaviour import Behaviour
from local.provider.calls import Usage
from local.provider.reply import Piece
from local.provider.text import TOKEN_CHARACTERS, Finish, Text, in_words

CACHED_FROM_TOKENS = 1_024
CACHED_STEP_TOKENS = 128

_prefix = urandom(6).hex()
_numbers = count(1)


as_json = to_json
"""JSON by pydantic's writer, which takes a third of the CPU of the standard library's."""


@dataclass(slots=True)
class Manner:
    """How to answer: the model's behaviour, and the finish that a fault forces."""

    behaviour: Behaviour
    forced: Finish | None = None


@dataclass(slots=True)
class Answer:
    """A body, or the events of a stream, and the tokens to pay for."""

    usage: Usage
    body: bytes = b""
    events: list[Piece] | None = None


def new_id(prefix: str) -> str:
    return f"{prefix}{_prefix}{next(_numbers):012x}"


def now() -> int:
    return int(time.time())


def usage_of(prompt_tokens: int, texts: Iterable[Text]) -> Usage:
    """Prompts of 1,024 tokens and more have half of them cached, in steps of 128, as if they had been sent before."""
    cached = 0
    if prompt_tokens >= CACHED_FROM_TOKENS:
        cached = prompt_tokens // 2 // CACHED_STEP_TOKENS * CACHED_STEP_TOKENS
    return Usage(prompt_tokens, cached, sum([text.tokens for text in texts]))


def as_usage(usage: Usage) -> dict[str, Any]:
    """Usage as chat completions and completions write it."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def event(value: dict[str, Any], pause: float = 0, name: str = "") -> Piece:
    """One server-sent event."""
    line = f"event: {name}\n" if name else ""
    return pause, b"%bdata: %b\n\n" % (line.encode(), as_json(value))


DONE: Piece = (0, b"data: [DONE]\n\n")


def paced_words(text: Text, manner: Manner) -> list[tuple[float, str]]:
    """The words of a stream and the seconds before each."""
    pause = manner.behaviour.latency_per_token / TOKEN_CHARACTERS
    return [(pause * len(word), word) for word in in_words(text.content)]
