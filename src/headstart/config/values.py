"""Value types that the parts of an experiment file share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Drop = Annotated[float, Field(ge=0, lt=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    """Frozen; no key that is not known; no value that is silently converted."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


def by_shape(value: Any) -> str:
    """Return the tag of a union's arm by the shape of a value, so that one problem is one line.

    `headstart.config.explain` leaves tags that begin with ~ out of the keys it tells.
    """
    if isinstance(value, str):
        return "~text"
    if isinstance(value, dict | BaseModel):
        return "~keys"
    return "~list" if isinstance(value, list | tuple) else "~number"
