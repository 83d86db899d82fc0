"""POST /v1/responses."""

from typing import Any

from local.provider import structured
from local.provider.answer import Answer, Manner, as_json, event, new_id, now, paced_words, usage_of
from local.provider.calls import Usage
from local.provider.chat import TOKENS_PER_MESSAGE, TOKENS_PER_REPLY
from local.provider.fields import Body, check_sampling, output_limit, required, said, wrong_type
from local.provider.reply import Piece
from local.provider.text import Text, finished, tokens_of, write

_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def answer(body: Body, manner: Manner) -> Answer:
    """Raises RefusedError naming the field that is wrong."""
    prompt, prompt_tokens = _prompt(body)
    max_tokens = output_limit(body, "max_output_tokens")
    check_sampling(body)
    text = finished(_content(body, prompt, manner), max_tokens, manner.forced)
    usage = usage_of(prompt_tokens, [text])
    if body.get("stream") is True:
        return Answer(usage, events=_events(body, text, usage, manner))
    return Answer(usage, as_json(_ended(_begun(body), text, usage, new_id("msg_"))))


def _prompt(body: Body) -> tuple[str, int]:
    given = required(body, "input")
    contents = [said(body.get("instructions"), "instructions")]
    if isinstance(given, str):
        contents.append(given)
    elif isinstance(given, list):
        for at, item in enumerate(given):
            if not isinstance(item, dict):
                raise wrong_type(f"input[{at}]", "an object", item)
            contents.append(said(item.get("content"), f"input[{at}].content"))
    else:
        raise wrong_type("input", "one of a string or array of objects", given)
    prompt = "\n".join(content for content in contents if content)
    return prompt, tokens_of(len(prompt)) + TOKENS_PER_MESSAGE * (len(contents) - 1) + TOKENS_PER_REPLY


def _content(body: Body, prompt: str, manner: Manner) -> str:
    content = write(prompt, 0, manner.behaviour.tokens)
    wanted = _format(body)
    return structured.fitting(wanted.get("schema"), content) if wanted["type"] in _JSON_FORMATS else content


_JSON_FORMATS = ("json_object", "json_schema")


def _format(body: Body) -> dict[str, Any]:
    text = body.get("text")
    wanted = text.get("format") if isinstance(text, dict) else None
    return wanted if isinstance(wanted, dict) and "type" in wanted else {"type": "text"}


def _begun(body: Body) -> dict[str, Any]:
    """The response object before it has an output."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now(),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": _format(body)},
        "tool_choice": "auto",
        "tools": [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
    }


def _ended(begun: dict[str, Any], text: Text, usage: Usage, message_id: str) -> dict[str, Any]:
    reason = _REASONS.get(text.finish)
    return begun | {
        "status": "incomplete" if reason else "completed",
        "completed_at": None if reason else now(),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [_message(message_id, [_part(text.content)], "incomplete" if reason else "completed")],
        "usage": {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
            "output_tokens": usage.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.completion,
        },
    }


def _message(message_id: str, content: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {"id": message_id, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(content: str) -> dict[str, Any]:
    return {"type": "output_text", "text": content, "annotations": [], "logprobs": []}


def _events(body: Body, text: Text, usage: Usage, manner: Manner) -> list[Piece]:
    begun = _begun(body)
    message_id = new_id("msg_")
    ended = _ended(begun, text, usage, message_id)
    item = {"output_index": 0}
    part = {"item_id": message_id, "output_index": 0, "content_index": 0}
    events: list[Piece] = []

    def tell(name: str, fields: dict[str, Any], pause: float = 0) -> None:
        name = f"response.{name}"
        events.append(event({"type": name, "sequence_number": len(events), **fields}, pause, name))

    tell("created", {"response": begun})
    tell("in_progress", {"response": begun})
    tell("output_item.added", item | {"item": _message(message_id, [], "in_progress")})
    tell("content_part.added", part | {"part": _part("")})
    for pause, word in paced_words(text, manner):
        tell("output_text.delta", part | {"delta": word, "logprobs": []}, pause)
    tell("output_text.done", part | {"text": text.content, "logprobs": []})
    tell("content_part.done", part | {"part": _part(text.content)})
    tell("output_item.done", item | {"item": ended["output"][0]})
    tell(ended["status"], {"response": ended})
    return events
