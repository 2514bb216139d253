"""The caller of the library, what it may write, and where an item is."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Response

from api.auth.callers import Caller
from api.auth.secrets import unauthorized
from api.errors import Problem
from api.http.parts import Model, Parts
from api.http.rate_limits import limited


@dataclass(frozen=True)
class Shelf:
    """A namespace of the library as one caller sees it; with a key, one of its items."""

    parts: Parts
    caller: Caller
    namespace: str
    key: str | None = None

    def __post_init__(self) -> None:
        """Raise 401 for a caller that is neither the service nor a user."""
        if not self.caller.service and self.caller.user_id is None:
            raise unauthorized("The library needs an access token, or the service secret.")

    @property
    def address(self) -> str:
        """The path of the item, or of the namespace."""
        ends = [self.namespace, *([self.key] if self.key is not None else [])]
        return "/".join(["/api/library", *(quote(end, safe=":@!$&'()*+,;=") for end in ends)])

    def read(self, model: type[Model], function: str, **arguments: Any) -> Model:
        """Call a SQL function for this place. Raises 404 and 410."""
        named = {"p_key": self.key} if self.key is not None else {}
        place = {"p_namespace": self.namespace, "p_caller": self.caller.argument(), **named}
        return self.parts.call(model, function, **place, **arguments)

    def write(self, model: type[Model], function: str, **arguments: Any) -> Model:
        """The same for a function that takes limits. Raises 409 and 429 over one of them."""
        settings = self.parts.settings
        hourly = None if self.caller.service else settings.library_writes_per_hour or None
        limits = {"most_items": settings.max_library_items or None, "writes_per_hour": hourly}
        try:
            return self.read(model, function, p_limits=limits, **arguments)
        except Problem as problem:
            raise limited(problem) if problem.slug == "rate-limited" else problem from None


def tag(response: Response, version: int) -> None:
    """Send a version as the `ETag`."""
    response.headers["ETag"] = f'"{version}"'
