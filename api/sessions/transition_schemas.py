"""What a transition is asked, and what it answers."""

from pydantic import Field

from api.http.schemas import OneSession, Question, Words


class End(Question):
    """How a session ends."""

    reason: Words | None = Field(default=None, description="Default: `discarded` for a draft, else `ended`.")


class Activation(OneSession):
    """The answer of `lull_activate_session`."""

    activated: bool
    restored: bool
    missing: int = 0
