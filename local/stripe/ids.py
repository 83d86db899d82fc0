"""Ids in Stripe's form that sort by when they were made, as Stripe's nearly do, in any collation."""

import secrets
import time

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
TIME_DIGITS, RANDOM_DIGITS = 11, 8

_last = 0


def new_id(prefix: str) -> str:
    """`cus_...`: microseconds, never the same twice in a process, and eight random digits."""
    global _last
    _last = max(_last + 1, time.time_ns() // 1_000)
    return f"{prefix}_{_in_base_36(_last)}{random_digits(RANDOM_DIGITS)}"


def random_digits(count: int) -> str:
    return "".join(secrets.choice(DIGITS) for _ in range(count))


def _in_base_36(number: int) -> str:
    digits = []
    for _ in range(TIME_DIGITS):
        number, digit = divmod(number, 36)
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))
