"""The shared objects that `index` creates once, and every route uses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel

from api.auth.callers import Callers
from api.database import Database
from api.flags import Decide
from api.observability import RequestNumbers
from api.settings import Settings

if TYPE_CHECKING:
    from api.storage import FileStorage

TIMEOUT_SECONDS = 10  # the functions' own statement time-out is 8

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Parts:
    """The settings and clients of one application, and what one feature needs of another.

    after_run             is called after each cleanup run with the remaining seconds
    is_stopping           returns True when the process is about to end
    policies              reads the policies as the SQL functions take them (raises PolicyError)
    receiver              creates the webhook's receiver (raises Problem)
    user_sessions         the store of user sessions
    prune                 removes stale ones from it, or counts them in a dry run; None where a policy does
    user_session_numbers  how many are alive, and how many writes no replica confirmed; None: not known
    """

    settings: Settings
    database: Database
    callers: Callers
    decide: Decide
    numbers: RequestNumbers
    after_run: Callable[[float], object]
    is_stopping: Callable[[], bool]
    policies: Callable[[], Sequence[dict[str, Any]]]
    receiver: Callable[[], object]
    user_sessions: Callable[[], object]
    prune: Callable[[bool], dict[str, Any] | None]
    user_session_numbers: Callable[[], tuple[int | None, int | None]]

    @cached_property
    def storage(self) -> "FileStorage":
        """The client of Supabase Storage, imported at its first use."""
        from api.storage import FileStorage

        return FileStorage(self.settings)

    def call(self, model: type[Model], function: str, **arguments: Any) -> Model:
        """Call a SQL function within 10 s and validate its answer as this model. Raises Problem."""
        answer = self.database.call(function, arguments, timeout_seconds=TIMEOUT_SECONDS)
        return model.model_validate(answer)

    async def call_async(self, model: type[Model], function: str, **arguments: Any) -> Model:
        """The same as `call`, without blocking the event loop."""
        answer = await self.database.call_async(function, arguments, timeout_seconds=TIMEOUT_SECONDS)
        return model.model_validate(answer)


def parts_of(request: Request) -> Parts:
    """The parts of the application that answers this request."""
    parts: Parts = request.app.state.parts
    return parts
