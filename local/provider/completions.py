"""POST /v1/completions."""

from typing import Any

from local.provider.answer import (
    DONE,
    Answer,
    Manner,
    as_json,
    as_usage,
    event,
    new_id,
    now,
    paced_words,
    usage_of,
)
from local.provider.fields import Body, check_sampling, choices, output_limit, prompts
from local.provider.reply import Piece
from local.provider.text import finished, write


def answer(body: Body, manner: Manner) -> Answer:
    """Without max_tokens an answer has its whole length; OpenAI would cut it at 16 tokens. Raises RefusedError."""
    asked, prompt_tokens = prompts(body, "prompt")
    max_tokens = output_limit(body, "max_tokens")
    check_sampling(body)
    variants = range(choices(body))
    texts = [
        finished(write(prompt, variant, manner.behaviour.tokens), max_tokens, manner.forced)
        for prompt in asked
        for variant in variants
    ]
    usage = usage_of(prompt_tokens, texts)
    head = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": now(),
        "model": body["model"],
        "system_fingerprint": "fp_sim",
    }
    if body.get("stream") is not True:
        shown = [_choice(index, text.content, text.finish) for index, text in enumerate(texts)]
        return Answer(usage, as_json({**head, "choices": shown, "usage": as_usage(usage)}))
    events: list[Piece] = []
    for index, text in enumerate(texts):
        for pause, word in paced_words(text, manner):
            events.append(event({**head, "choices": [_choice(index, word, None)]}, pause))
        events.append(event({**head, "choices": [_choice(index, "", text.finish)]}))
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") is True:
        events.append(event({**head, "choices": [], "usage": as_usage(usage)}))
    return Answer(usage, events=[*events, DONE])


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
