"""POST /v1/chat/completions."""

from typing import Any

from local.provider import structured
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
from local.provider.calls import Usage
from local.provider.fields import Body, check_sampling, choices, output_limit, required, said, wrong_type
from local.provider.reply import Piece
from local.provider.text import Text, finished, tokens_of, write

TOKENS_PER_MESSAGE = 4
TOKENS_PER_REPLY = 3


def answer(body: Body, manner: Manner) -> Answer:
    """Raises RefusedError naming the field that is wrong."""
    prompt, prompt_tokens = _prompt(body)
    max_tokens = output_limit(body, "max_completion_tokens", "max_tokens")
    check_sampling(body)
    texts = [
        finished(_content(body, prompt, variant, manner), max_tokens, manner.forced) for variant in range(choices(body))
    ]
    usage = usage_of(prompt_tokens, texts)
    if body.get("stream") is True:
        return Answer(usage, events=_events(body, texts, usage, manner))
    return Answer(usage, _completion(body, texts, usage))


def _prompt(body: Body) -> tuple[str, int]:
    messages = required(body, "messages")
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    contents = []
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise wrong_type(f"messages[{at}]", "an object", message)
        contents.append(said(message.get("content"), f"messages[{at}].content"))
    prompt = "\n".join(contents)
    return prompt, tokens_of(len(prompt)) + TOKENS_PER_MESSAGE * len(messages) + TOKENS_PER_REPLY


def _content(body: Body, prompt: str, variant: int, manner: Manner) -> str:
    content = write(prompt, variant, manner.behaviour.tokens)
    wanted = body.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_object", "json_schema"):
        return content
    described = wanted.get("json_schema")
    return structured.fitting(described.get("schema") if isinstance(described, dict) else None, content)


# Filled in rather than written from dicts, which takes four times as long: thousands a second are such answers.
_COMPLETION = (
    b'{"id":"%b","object":"chat.completion","created":%d,"model":%b,"choices":[%b],"usage":'
    b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,'
    b'"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},'
    b'"service_tier":"default","system_fingerprint":"fp_sim"}'
)
_CHOICE = (
    b'{"index":%d,"message":{"role":"assistant","content":%b,"refusal":null,"annotations":[]},'
    b'"logprobs":null,"finish_reason":"%b"}'
)


def _completion(body: Body, texts: list[Text], usage: Usage) -> bytes:
    shown = [_CHOICE % (index, as_json(text.content), text.finish.encode()) for index, text in enumerate(texts)]
    return _COMPLETION % (
        new_id("chatcmpl-").encode(),
        now(),
        as_json(body["model"]),
        b",".join(shown),
        usage.prompt,
        usage.completion,
        usage.prompt + usage.completion,
        usage.cached,
    )


def _events(body: Body, texts: list[Text], usage: Usage, manner: Manner) -> list[Piece]:
    options = body.get("stream_options")
    with_usage = isinstance(options, dict) and options.get("include_usage") is True
    head = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": now(),
        "model": body["model"],
        "service_tier": "default",
        "system_fingerprint": "fp_sim",
    }
    if with_usage:
        head["usage"] = None

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None, pause: float = 0) -> Piece:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice]}, pause)

    events = []
    for index, text in enumerate(texts):
        events.append(chunk(index, {"role": "assistant", "content": "", "refusal": None}))
        events.extend(chunk(index, {"content": word}, pause=pause) for pause, word in paced_words(text, manner))
        events.append(chunk(index, {}, text.finish))
    if with_usage:
        events.append(event({**head, "choices": [], "usage": as_usage(usage)}))
    return [*events, DONE]
