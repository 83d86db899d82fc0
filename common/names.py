"""Names that people give to accounts and keys, and that are shown to others: in lists, logs and terminals."""

import unicodedata

from common import json_text
from common.errors import InvalidRequest

MAX_NAME_CHARACTERS = 200


def checked(name: str, what: str) -> str:
    """The name without the spaces around it. Raises InvalidRequest for one that is empty, too long, or holds what a
    terminal would act on."""
    if json_text.is_blank(name):
        raise InvalidRequest(f"The {what}'s name is empty: give it one.", param="name")
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidRequest(f"The {what}'s name has over {MAX_NAME_CHARACTERS} characters.", param="name")
    if not json_text.is_storable(name) or any(unicodedata.category(character) == "Cc" for character in name):
        raise InvalidRequest(f"The {what}'s name holds a control character: leave it out.", param="name")
    return name.strip()
