"""Where webhooks may go."""

from urllib.parse import urlsplit

from common.errors import InvalidRequest


def check(url: str, *, param: str) -> None:
    """Raises InvalidRequest for a URL that no webhook may go to."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InvalidRequest(f"{param} is no URL that can be read: send one like https://...", param=param) from None
    if parts.scheme != "https" or not parts.hostname or len(url) > 2_000:
        raise InvalidRequest(f"{param} is an https URL of at most 2,000 characters.", param=param)
