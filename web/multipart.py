"""How multipart forms are read: their files go to disk as they come."""

from typing import IO

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser, MultiPartParser

from common import storage
from common.errors import InvalidRequest

PIECE_BYTES = 128 * 1024

Parsed = tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]


class FormParser(FormDataParser):
    """werkzeug's, but for the size of its pieces, and that a broken form is an error and not an empty form."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> Parsed:
        if mimetype != "multipart/form-data":
            return super().parse(stream, mimetype, content_length, options)
        # werkzeug counts what it holds of a file against the limit for a field.
        limit = max(self.max_form_memory_size or 0, 4 * PIECE_BYTES)
        parser = MultiPartParser(self.stream_factory, limit, self.cls, PIECE_BYTES, self.max_form_parts)
        try:
            boundary = (options or {}).get("boundary", "").encode("ascii")
            if not boundary:
                raise ValueError("it names no boundary")
            form, files = parser.parse(stream, boundary, content_length)
        except ValueError as error:
            raise InvalidRequest(
                f"The multipart form cannot be read, or is not whole: {error}.", code="invalid_form"
            ) from None
        return stream, form, files


class UploadRequest(Request):
    """A request whose files wait on the disk."""

    form_data_parser_class = FormParser

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return storage.spool()
