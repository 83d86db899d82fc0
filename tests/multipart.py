"""Multipart forms as bytes, for tests that send them in pieces, packed or damaged."""

BOUNDARY = "a-boundary-of-some-length"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


def form(content: bytes, **fields: str) -> bytes:
    """A multipart form with a file."""
    disposition = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{disposition}"{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    parts += [f'{disposition}"file"; filename="rows.csv"\r\n\r\n'.encode(), content, f"\r\n--{BOUNDARY}--\r\n".encode()]
    return b"".join(parts)
