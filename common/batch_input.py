"""How a CSV batch's rows become jobs: kept on the batch as JSON, so that ingest and download read the file alike."""

from dataclasses import dataclass
from typing import Any, Self

from common.body_template import BodyTemplate
from common.csv_dialect import CsvDialect
from common.errors import InvalidRequest
from common.prompt_template import Template

# With the hash of a batch's id, the advisory lock of whoever reads its input.
INGEST_LOCK = 7_201_003
CUSTOM_ID_COLUMN = "custom_id"


@dataclass(frozen=True, slots=True)
class CsvInput:
    """A CSV's dialect, the templates of its prompts, and the fields that all bodies share, such as max_tokens."""

    dialect: CsvDialect
    prompt: str
    system: str | None
    body_fields: dict[str, Any]

    @property
    def names_rows(self) -> bool:
        """Whether a column holds the rows' custom_ids; else their numbers are."""
        return CUSTOM_ID_COLUMN in self.dialect.columns

    def to_json(self) -> dict[str, Any]:
        return {
            "dialect": self.dialect.to_dict(),
            "prompt": self.prompt,
            "system": self.system,
            "body_fields": self.body_fields,
        }

    def body_template(self, model: str) -> BodyTemplate:
        """What makes a row's body. Raises InvalidRequest when a template names a column the file does not have, or
        when nobody could say which column names the rows."""
        columns = self.dialect.columns
        if columns.count(CUSTOM_ID_COLUMN) > 1:
            raise InvalidRequest(f"The file has more than one column {CUSTOM_ID_COLUMN}: keep one.", param="file")
        return BodyTemplate(
            model=model,
            prompt=Template.parse(self.prompt, columns, "prompt"),
            system=Template.parse(self.system, columns, "system") if self.system else None,
            options=self.body_fields,
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(CsvDialect.from_dict(value["dialect"]), value["prompt"], value["system"], value["body_fields"])
