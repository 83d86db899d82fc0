"""Misbehaviour on demand: which fault strikes a call, and what it does to the answer."""

from collections.abc import Iterable
from hashlib import blake2b

from local.provider import errors
from local.provider.behaviour import Behaviour, FaultRule
from local.provider.calls import Call
from local.provider.errors import Error
from local.provider.limits import limit_headers
from local.provider.reply import HTML, End, Piece, Reply

DRIP_PIECES = 20
USUAL_REQUESTS_PER_MINUTE = 500

_PAGES = {"502": "Bad Gateway", "504": "Gateway Time-out"}


def struck(rules: Iterable[FaultRule], call: Call, seed: int) -> str | None:
    """The first fault that strikes this call, or None.

    Chance is a hash of the body, its number of tries and the seed: a run is repeated by the same faults on the same
    calls in whatever order they come, and each new try has a new chance.
    """
    for rule in rules:
        if rule.first and not 0 < call.tries <= rule.first:
            continue
        if rule.probability == 1 or _chance(rule.fault, call, seed) < rule.probability:
            return rule.fault
    return None


def _chance(fault: str, call: Call, seed: int) -> float:
    drawn = blake2b(f"{fault} {call.tries} {seed}".encode(), digest_size=4, key=call.digest).digest()
    return int.from_bytes(drawn) / 2**32


def instead(fault: str, model: str, behaviour: Behaviour) -> Reply | None:
    """The answer that a fault gives in place of the model's; None for faults that spoil the model's own answer."""
    if page := _PAGES.get(fault):
        title = f"{fault} {page}"
        body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>"
        return Reply(int(fault), body.encode(), HTML)
    if fault == "hang":
        return Reply(200, end=End.NEVER)
    if fault == "reset":
        return Reply(200, end=End.RESET)
    error = _error(fault, model, behaviour)
    return error.reply() if error else None


def _error(fault: str, model: str, behaviour: Behaviour) -> Error | None:
    match fault:
        case "400":
            return errors.REFUSED_VALUE
        case "401":
            return errors.BAD_KEY
        case "403":
            return errors.no_access(model)
        case "404":
            return errors.no_model_named(model)
        case "408":
            return errors.TIMED_OUT
        case "409":
            return errors.CONFLICT
        case "429":
            limit, wait = USUAL_REQUESTS_PER_MINUTE, behaviour.retry_after
            error = errors.rate_limited(model, "requests", limit, limit, 1, wait)
            return errors.with_headers(error, limit_headers("requests", limit, 0, wait))
        case "quota":
            return errors.NO_QUOTA
        case "500":
            return errors.SERVER_ERROR
        case "503":
            return errors.with_retry_after(errors.OVERLOADED, behaviour.retry_after)
        case _:
            return None


def spoil(reply: Reply, fault: str, behaviour: Behaviour) -> None:
    """Damage the model's answer, or the way it is delivered."""
    if fault == "not-json":
        if reply.pieces:
            at = len(reply.pieces) // 2
            reply.pieces[at] = (reply.pieces[at][0], b'data: {"id": "chatcmpl-\n\n')
        else:
            reply.body = b"upstream said: ok\n" + reply.body[: len(reply.body) // 2]
    elif fault == "drop":
        reply.pieces = _pieces(reply, 2)
        reply.pieces = reply.pieces[: (len(reply.pieces) + 1) // 2]
        reply.end = End.CUT
    elif fault == "drip":
        pieces = _pieces(reply, DRIP_PIECES)
        pause = behaviour.drip_seconds / len(pieces)
        reply.pieces = [(wait + pause, piece) for wait, piece in pieces]


def _pieces(reply: Reply, number: int) -> list[Piece]:
    """The pieces of a stream, or so many pieces of a body."""
    if reply.pieces is not None:
        return reply.pieces
    size = -(-len(reply.body) // number)
    return [(0, reply.body[at : at + size]) for at in range(0, len(reply.body), size)]
