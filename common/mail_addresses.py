"""The addresses that mail can be sent to, and nothing that a mail server would read as more than an address."""

import re

from common.errors import InvalidRequest

# RFC 5321, 4.5.3.1: an address with its two angle brackets has 256 octets at most, what is before the @ has 64.
MAX_ADDRESS_BYTES = 254
MAX_LOCAL_BYTES = 64

# Dots between atoms, as RFC 5322 has them, with the letters of all languages that RFC 6531 adds. Quoted and commented
# forms are left out: nobody is reached by them alone, and they are what injections are made of.
_ATOMS = r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_LABEL = r"[^\W_](?:[\w-]*[^\W_])?"
_ADDRESS = re.compile(rf"(?P<local>{_ATOMS})@(?P<domain>{_LABEL}(?:\.{_LABEL})*)")


def is_address(text: str) -> bool:
    """Whether mail can be sent to it, as far as its form tells."""
    found = _ADDRESS.fullmatch(text) if len(text) <= MAX_ADDRESS_BYTES and _is_encodable(text) else None
    return (
        found is not None
        and len(text.encode()) <= MAX_ADDRESS_BYTES
        and len(found["local"].encode()) <= MAX_LOCAL_BYTES
        and _is_itself(found["domain"])
    )


def check(text: str, param: str = "email") -> None:
    """Raises InvalidRequest for what is no address."""
    if not is_address(text):
        raise InvalidRequest(f"{param} is an address such as ada@example.com.", param=param, code="invalid_email")


def _is_itself(domain: str) -> bool:
    """Whether mail for this domain goes to it, and to no other: IDNA reads some letters as others, such as those of
    full width, and then whoever has the one address would be mailed what is said to the other."""
    try:
        return domain.isascii() or domain.encode("idna").decode("idna") == domain.lower()
    except UnicodeError:
        return False


def _is_encodable(text: str) -> bool:
    """JSON can bring half of a surrogate pair, which no other text has."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
