"""Requests and answers about feedback."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from api.http.schemas import TABLE_PATTERN, Answer, NotNull, Number, PlainDigits, Question, Time, Words


class NewFeedback(Question):
    """Feedback on a session."""

    score: Annotated[int, Field(ge=1, le=5), Number]
    about: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = Field(
        default=None, description="What it is about, such as `dm`."
    )
    comment: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = None
    author: Words | None = Field(
        default=None,
        description="Only for the service: whose feedback it passes on, by a name of yours. Stored as a keyed hash.",
    )


class FeedbackQuery(Question):
    """Which feedback to list."""

    limit: Annotated[int, Field(ge=1, le=100), PlainDigits] = 100
    cursor: Annotated[str | None, NotNull()] = Field(
        default=None, max_length=200, description="`nextCursor` of the page before."
    )
    table: Annotated[str | None, NotNull()] = Field(
        default=None, pattern=TABLE_PATTERN, description="The adopted table that the session is in."
    )


class Feedback(Answer):
    """Feedback on a session."""

    id: UUID
    score: int
    about: str | None
    comment: str | None
    at: Time
    user_id: UUID | None = Field(default=None, description="The author, if it is a user. Only for the service.")


class GivenFeedback(Answer):
    """The answer of `lull_give_feedback`."""

    feedback: Feedback
    replaced: bool = Field(description="The author had given feedback on this session before.")


class Position(Answer):
    """The end of a page: the time and id of its last feedback."""

    created_at: str
    id: UUID


class ListedFeedback(Answer):
    """The answer of `lull_list_feedback`."""

    feedback: list[Feedback]
    count: int
    average: float | None
    next: Position | None


class FeedbackPage(Answer):
    """Feedback, newest first."""

    feedback: list[Feedback]
    count: int = Field(description="Of all, not of this page.")
    average: float | None = Field(description="Of all scores; null without any.")
    next_cursor: str | None
