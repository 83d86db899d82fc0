"""The text of an answer, derived from the prompt: the same prompt has the same answer, in this version.

A token is 4 characters, rounded up, in prompts and answers alike; the truth of a tokenizer would cost more CPU than
all the rest of a call, and nothing here needs it.
"""

from dataclasses import dataclass
from typing import Literal
from zlib import crc32

Finish = Literal["stop", "length", "content_filter"]

TOKEN_CHARACTERS = 4
ECHOED_CHARACTERS = 96
ECHOED_FROM_LAST_CHARACTERS = 400

_OPENINGS = (
    "In short:",
    "The main point is this:",
    "To sum up:",
    "What stands out:",
    "The gist of it:",
    "As I read it:",
)
_CLOSINGS = (
    "Overall this is clear.",
    "On balance it is positive.",
    "Nothing else stands out.",
    "That covers the question.",
    "It is a mixed picture overall.",
    "More detail would help.",
    "The rest follows from that.",
)


@dataclass(slots=True)
class Text:
    """One answer and how it finished."""

    content: str
    finish: Finish
    tokens: int


def tokens_of(characters: int) -> int:
    return -(-characters // TOKEN_CHARACTERS)


def write(prompt: str, variant: int, tokens: int) -> str:
    """A short answer that echoes words of the prompt's end; of exactly so many tokens, or of its own length for 0."""
    mark = crc32(prompt.encode(), variant)
    echo = _words_within(prompt[-ECHOED_FROM_LAST_CHARACTERS:], mark)
    answer = f"{_OPENINGS[mark % 6]} {echo}. {_CLOSINGS[(mark >> 8) % 7]}"
    if tokens:
        characters = tokens * TOKEN_CHARACTERS
        answer = ((answer + " ") * (characters // len(answer) + 1))[:characters]
    return answer


def _words_within(said: str, mark: int) -> str:
    """Words in a row: those that lie whole within a window, which costs less than splitting all of them."""
    start = mark % max(1, len(said) - ECHOED_CHARACTERS)
    words = said[start : start + ECHOED_CHARACTERS].split()
    if len(said) > ECHOED_CHARACTERS:
        words = words[1:-1] or words
    return " ".join(words).strip(" .,;:!?") or "nothing was asked"


def finished(content: str, max_tokens: int | None, forced: Finish | None) -> Text:
    """The text as the caller gets it: cut at max_tokens, or as a fault wants it to finish."""
    finish: Finish = "stop"
    if forced == "content_filter":
        return Text("", forced, 0)
    if forced == "length":
        content, finish = content[: len(content) // 2], forced
    if max_tokens is not None and len(content) > max_tokens * TOKEN_CHARACTERS:
        content, finish = content[: max_tokens * TOKEN_CHARACTERS], "length"
    return Text(content, finish, tokens_of(len(content)))


def in_words(content: str) -> list[str]:
    """The pieces a stream sends: words, each with the white space before it; joined they are the content."""
    pieces = []
    start = 0
    while start < len(content):
        space = content.find(" ", start + 1)
        end = space if space >= 0 else len(content)
        pieces.append(content[start:end])
        start = end
    return pieces
