"""What is held for a job until its result is there: the most tokens it can use, and the most they can cost.

The prompt counts as half the bytes of its body. Tokenizers in use make a token of about four bytes of English, of three
of Chinese and of two of closely set code or numbers, and the body's own JSON is counted with it, so that for what is in
the body this is a bound and no estimate; what it only names, an image at an address or an earlier response, is not in
it. The answer counts as the bound that the request sets, times the answers it asks for; a request that sets none gets
the plan's, written into its body.
"""

from functools import lru_cache
from typing import Any

from common import json_text
from common.endpoints import CHAT
from common.errors import InvalidRequest
from common.money import Price
from common.plans import Plan
from common.prices import highest_price_of
from common.providers import catalog

COMPLETIONS = "/v1/completions"
BYTES_PER_PROMPT_TOKEN = 2
MAX_ANSWERS = 128
# The fields that bound an answer; the first is the one to add.
OUTPUT_BOUNDS: dict[str, tuple[str, ...]] = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    "/v1/responses": ("max_output_tokens",),
    COMPLETIONS: ("max_tokens",),
    "/v1/embeddings": (),
}
# How many answers to a prompt are asked for, or made to choose from: the most of these.
ANSWERS: dict[str, tuple[str, ...]] = {CHAT: ("n",), COMPLETIONS: ("n", "best_of")}
# As a column has it.
MAX_JOB_TOKENS = 2**31 - 1


# A body to send, and what is held for it: tokens, and nano-dollars, 0 where the model has no known price. One is made
# for each of a million rows, and a plain tuple is made in a quarter of the time.
Held = tuple[bytes, int, int]


class Reserver:
    """Holds for jobs of one endpoint under an account's limits. `priced` says that a cap on the cost must hold: a
    model without a known price is then refused."""

    def __init__(self, endpoint: str, limits: Plan, *, priced: bool = False) -> None:
        self._endpoint = endpoint
        self._bounds = OUTPUT_BOUNDS[endpoint]
        self._answers = ANSWERS.get(endpoint, ())
        self._max_output = limits.max_output_tokens
        self._default_output = min(limits.default_output_tokens, limits.max_output_tokens)
        self._max_prompt = limits.max_prompt_tokens
        self._plan = limits.name
        self._priced = priced
        # For the length of one input, so that all of its rows are held at one price.
        self._price = lru_cache(maxsize=1000)(highest_price_of)

    def hold(self, body: dict[str, Any], sent: bytes, prefix: str = "body.") -> Held:
        """`sent` is the body as JSON. Raises InvalidRequest, naming the field behind `prefix`."""
        output = self.output_of(body, prefix)
        if output is None:
            output = self._default_output
            name = self._bounds[0]
            if name in body:
                # It is null. A second one of the same name would be read in different ways.
                sent = json_text.dumps(body | {name: output})
            else:
                sent = b'%b,"%b":%d}' % (sent[:-1], name.encode(), output)
        if self._answers:
            output *= self._answers_to(body, prefix)
        tokens, cost = self.bound(body["model"], len(sent), output, prefix)
        return sent, tokens, cost

    def bound(self, model: str, size: int, output: int, prefix: str = "body.") -> tuple[int, int]:
        """Tokens and cost of a body of `size` bytes whose answers have at most `output` tokens. Raises InvalidRequest
        for one that is too long, or whose cost nobody knows though it has to."""
        prompt = size // BYTES_PER_PROMPT_TOKEN
        tokens = prompt + output
        if tokens > MAX_JOB_TOKENS:
            raise InvalidRequest(
                f"The answers may come to {output:,} tokens, and one request to {MAX_JOB_TOKENS:,} at most: ask for "
                "fewer or shorter ones.",
                param=f"{prefix}{self._bounds[0]}" if self._bounds else prefix.rstrip("."),
                code="invalid_bound",
            )
        if prompt > self._max_prompt:
            raise InvalidRequest(
                f"The body counts as {prompt:,} tokens of prompt, half its bytes; the plan {self._plan} allows "
                f"{self._max_prompt:,}: shorten it.",
                param=prefix.rstrip(".") or "prompt",
                code="prompt_too_long",
            )
        context = context_of(model)
        if context is not None and prompt > context:
            raise InvalidRequest(
                f"The body counts as {prompt:,} tokens of prompt, half its bytes; the model {model} takes {context:,}: "
                "shorten it.",
                param=prefix.rstrip(".") or "prompt",
                code="prompt_too_long",
            )
        price: Price | None = self._price(model)
        if price is None:
            if self._priced:
                raise InvalidRequest(
                    f"The price of {model!r} is not known, so that no cap on the cost can hold: choose another "
                    "model, leave the cap out, or have the operator name the price.",
                    param=f"{prefix}model",
                    code="price_unknown",
                )
            return tokens, 0
        return tokens, price.cost(prompt, 0, output)

    def _answers_to(self, body: dict[str, Any], prefix: str) -> int:
        most = 1
        for name in self._answers:
            if (answers := body.get(name)) is not None:
                most = max(most, self._counted(answers, prefix + name, MAX_ANSWERS))
        return most * _prompts(body.get("prompt")) if self._endpoint == COMPLETIONS else most

    def bounded(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a CSV's bodies, with a bound of the answers. Raises InvalidRequest."""
        return fields if self.output_of(fields) is not None else fields | {self._bounds[0]: self._default_output}

    def output_of(self, fields: dict[str, Any], prefix: str = "") -> int | None:
        """The bound of one answer that a body sets, or the fields of all bodies of a CSV; None where they set none, and
        0 where answers have no tokens. Raises InvalidRequest, naming the field behind `prefix`."""
        found: int | None = None if self._bounds else 0
        for name in self._bounds:
            if (value := fields.get(name)) is not None:
                bound = value
                if type(value) is not int or not 1 <= value <= self._max_output:
                    bound = self._counted(value, prefix + name, self._max_output)
                if found is None or bound > found:
                    found = bound
        return found

    def _counted(self, value: object, param: str, most: int) -> int:
        # JSON has one kind of number: 60.0 is 60 there.
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= most and value % 1 == 0:
            return int(value)
        raise InvalidRequest(
            f"{param} is a whole number from 1 to {most:,}, which is what the plan {self._plan} allows.",
            param=param,
            code="invalid_bound",
        )


@lru_cache(maxsize=1000)
def context_of(model: str) -> int | None:
    """The longest prompt of a model, in tokens, where the operator's file says."""
    spec = catalog().find(model)
    return None if spec is None else spec.context


def _prompts(prompt: object) -> int:
    """Of a completion, each of which has answers: a list has several, unless it is one prompt's tokens."""
    if not isinstance(prompt, list) or all(isinstance(token, int) for token in prompt):
        return 1
    return len(prompt)


def exposure(reserved: int, cost: int, max_cost: int | None) -> int:
    """What a batch may still cost its account: what is held for its jobs, unless its own cap stops it before that."""
    return reserved if max_cost is None else max(0, min(reserved, max_cost - cost))
