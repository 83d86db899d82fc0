"""What a body's fields are read as."""

import pytest

from common.errors import InvalidRequest
from web import forms


def problem(sent: dict[str, object]) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as raised:
        forms.parse(forms.ShortJob, sent)
    return raised.value.param, raised.value.code


@pytest.mark.parametrize("unknown", [1, 10, 1_000])
def test_of_many_fields_that_there_are_not_the_first_is_named(unknown: int) -> None:
    many: dict[str, object] = {f"field-{number}": number for number in range(unknown)}
    good = {"model": "sim", "prompt": "Hi"}
    assert problem(good | many) == ("field-0", "extra_forbidden")
    assert problem(many | good) == ("field-0", "extra_forbidden")
    # What is wrong with the form's own fields comes before that.
    assert problem(many | {"model": "sim"}) == ("prompt", "missing")
    assert problem(many | good | {"model": 7}) == ("model", "string_type")
