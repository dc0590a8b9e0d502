"""Types of values that several wings share."""

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: value or ())]
"""Names in order; null reads as none."""
JsonText = Annotated[
    str, BeforeValidator(lambda value: value if isinstance(value, str) else json.dumps(value))
]
"""Any JSON value as text, for people."""
Values = Annotated[dict[str, object], BeforeValidator(lambda value: value or {})]
"""Values by column; null reads as none."""
Key = Mapping[str, str | int | float | bool | None]
"""Key columns of one row."""
