"""The policies file as a model: which rows are stale, and whether they are archived or deleted."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from api.settings import LEAST_AGES, Settings

DEFAULT_FILE = Path(__file__).with_name("policies.toml")
USUAL_SUBJECT = "abandoned-drafts"

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_LONGEST_AGE = 100 * 365 * _SECONDS["d"]


class PolicyError(ValueError):
    """The policies file cannot be used; the message names the policy, the key and the reason."""


def _seconds(value: object) -> float:
    """Read an age such as "24 h": a number and one of s, min, h, d."""
    match = re.fullmatch(r"(-?)(\d+(?:\.\d+)?) ?(s|min|h|d)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a number and a unit, such as "30 min", "24 h" or "7 d"')
    if match[1]:
        raise ValueError("must not be negative")
    seconds = float(match[2]) * _SECONDS[match[3]]
    if seconds > _LONGEST_AGE:
        raise ValueError("must not be more than 100 years")
    return seconds


def _none(value: object) -> object:
    """Read "none" as None: TOML has no null."""
    return None if value == "none" else value


_Age = Annotated[float, BeforeValidator(_seconds)]


def _storable(value: object) -> object:
    """Refuse the character NUL, which Postgres cannot store in text."""
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not contain the character NUL")
    return value


_Storable = BeforeValidator(_storable)
_Column = Annotated[str, Field(min_length=1, max_length=63), _Storable]
_Count = Annotated[int, Field(ge=1, le=100_000_000_000, strict=True)]  # the SQL multiplies within 8 bytes
_Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Value = Annotated[Annotated[str, Field(max_length=1000)] | _Integer | bool, Field(union_mode="smart"), _Storable]


class _ClockBelow(BaseModel):
    """Rows of a table below keep what they hang below while this clock is new."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clock: _Column


_Table = Annotated[str, Field(pattern=r"^[^.\s]{1,63}\.[^.\s]{1,63}$"), _Storable]
_Below = Literal["keeps", "goes along"] | _ClockBelow


class Policy(BaseModel):
    """One policy, with its age already taken from the environment. Ages are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    reason: Annotated[str, Field(min_length=1, max_length=200), _Storable]
    target: _Table
    clock: _Column
    also_clocks: tuple[_Column, ...] = ()
    below: dict[_Table, _Below] = {}
    equals: dict[_Column, _Value] = {}
    nulls: tuple[_Column, ...] = ()
    age: _Age
    age_variable: str | None = None
    warn_before: _Age | None = None
    archive: Annotated[bool, Field(strict=True)] = True
    restore: _Age | None = None
    max_rows: _Count = 50_000
    growth_factor: Annotated[Annotated[float, Field(gt=1, le=1_000_000)] | None, BeforeValidator(_none)] = 5
    growth_floor: _Count = 1000
    max_percent: Annotated[Annotated[float, Field(gt=0, le=100)] | None, BeforeValidator(_none)] = None
    max_cascaded: _Count = 1_000_000
    max_below_root: _Count = 20_000
    max_below_bytes: _Count = 64 * 1024 * 1024
    _age_is_simulated: bool = PrivateAttr(default=False)

    @model_validator(mode="after")
    def _archived_rows_have_a_restore_window(self) -> Self:
        if self.archive != (self.restore is not None):
            raise ValueError('needs `restore = "7 d"` or `archive = false`, and not both')
        if (self.restore or 0) % _SECONDS["d"]:
            raise ValueError("restore: must be whole days")
        return self

    @property
    def restore_days(self) -> int:
        """The days for which an archived row can be restored; 0 when rows are not archived."""
        return int(self.restore or 0) // _SECONDS["d"]

    def aged(self, hours: float | None) -> Self:
        """The same policy with another age, for a dry run; None keeps the age."""
        if hours is None:
            return self
        simulated = self.model_copy(update={"age": hours * _SECONDS["h"]})
        simulated._age_is_simulated = True
        return simulated

    def arguments(self) -> dict[str, Any]:
        """The policy as the SQL functions take it."""
        return {
            **self.model_dump(exclude={"age", "age_variable", "restore", "warn_before"}),
            "nulls": list(self.nulls),
            "also_clocks": list(self.also_clocks),
            "age_seconds": self.age,
            "restore_days": self.restore_days,
            "warn_seconds": self.warn_before,
            "least_age_seconds": None if self.age_variable is None else LEAST_AGES[self.age_variable],
            "age_is_simulated": self._age_is_simulated,
        }


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    policy: Annotated[list[Policy], Field(min_length=1)]


def load_policies(settings: Settings) -> tuple[Policy, ...]:
    """Read the policies file, ages overridden by the environment.

    Raises PolicyError naming the policy, the key and the reason.
    """
    path = Path(settings.policies_file) if settings.policies_file else DEFAULT_FILE
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(f"{path.name}: {error}") from error
    try:
        policies = _File.model_validate(content).policy
    except ValidationError as error:
        raise PolicyError("; ".join(_sentence(content, item) for item in error.errors())) from None
    names = [policy.name for policy in policies]
    for name in names:
        if names.count(name) > 1:
            raise PolicyError(f"{name}: there are two policies of this name")
    return tuple(_aged(policy, settings) for policy in policies)


def subject_of(policies: Sequence[Policy]) -> str:
    """Name the policy that a report's first fields are about by default."""
    names = [policy.name for policy in policies]
    return USUAL_SUBJECT if USUAL_SUBJECT in names else names[0]


def _aged(policy: Policy, settings: Settings) -> Policy:
    if policy.age_variable is None:
        return policy
    ages = settings.ages()
    if policy.age_variable not in ages:
        raise PolicyError(f"{policy.name}: age_variable: must be one of {', '.join(ages)}")
    age = ages[policy.age_variable]
    return policy if age is None else policy.model_copy(update={"age": age})


def _sentence(content: dict[str, Any], item: Any) -> str:
    """ "orphaned-games: age: must not be negative" of one of pydantic's errors."""
    match item["loc"]:
        case ("policy", int(index), *keys):
            entry = content["policy"][index]
            name = entry.get("name") if isinstance(entry, dict) else None
            where = [str(name or f"policy {index + 1}"), *(str(key) for key in keys)]
        case keys:
            where = [str(key) for key in keys]
    message = str(item["msg"]).removeprefix("Value error, ")
    return ": ".join([*where, "unknown key" if item["type"] == "extra_forbidden" else message])
