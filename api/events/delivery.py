"""Delivery: claim events, send them concurrently, store the results; until no event is due or the time is up.

A round is the first undelivered event of up to 16 sessions, so that the order within a session is kept. A round
without a delivered event is the last one: a receiver that is down or slow costs one round.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from api.database import Database
from api.errors import DatabaseUnavailable
from api.events.addresses import AddressRefused
from api.events.schemas import Claim, DeliveryReport, Settled
from api.events.webhook import Attempt, Receiver, create_receiver, open_client, send
from api.settings import Settings

log = logging.getLogger("lull.events")

Answer = TypeVar("Answer", bound=BaseModel)

AFTER_RUN_SECONDS = 8.0
_ROUND = 16
_ATTEMPT_SECONDS = 5.0
_SHORTEST_ATTEMPT_SECONDS = 1.0
_RESERVE_SECONDS = 1.0  # of each round, for claiming and settling
_CLAIM_MARGIN_SECONDS = 15.0  # a claim outlasts the attempt, so that no other process sends the event meanwhile
_SHORTEST_CALL_SECONDS = 2.0
_DATABASE_SECONDS = 10.0  # the functions' own statement time-out is 8


@dataclass(frozen=True)
class Webhooks:
    """The dependencies of a delivery. Whether the receiver is usable is checked when delivering."""

    settings: Settings
    database: Database

    @property
    def wanted(self) -> bool:
        """Whether the operator has configured a webhook."""
        return self.settings.events_webhook_url is not None


def deliver_after_run(webhooks: Webhooks, seconds_left: float) -> None:
    """Deliver due events after a cleanup run, within a small time budget. Does nothing without a webhook."""
    if webhooks.wanted:
        deliver(create_receiver(webhooks.settings), webhooks.database, min(AFTER_RUN_SECONDS, seconds_left))


def deliver(receiver: Receiver, database: Database, seconds: float) -> DeliveryReport:
    """Deliver for `seconds` at most. Raises Problem when the database cannot be asked.

    Must not be called in a thread with a running event loop.
    """
    started = time.monotonic()
    report, errors = DeliveryReport(), Counter[str]()
    try:
        asyncio.run(_Delivery(receiver, database, started + seconds, report, errors).work())
    finally:
        report.errors = dict(errors)
        fields = {**report.model_dump(), "ms": round((time.monotonic() - started) * 1000, 1)}
        level = logging.WARNING if report.failed or report.dead else logging.INFO
        log.log(level, "events delivered", extra={"fields": fields})
    return report


class _Delivery:
    """Rounds over one connection pool, until a deadline. The database is called only between the attempts."""

    def __init__(
        self,
        receiver: Receiver,
        database: Database,
        deadline: float,
        report: DeliveryReport,
        errors: Counter[str],
    ) -> None:
        self.receiver, self.database, self.deadline = receiver, database, deadline
        self.report, self.errors = report, errors

    async def work(self) -> None:
        async with open_client(self.receiver) as client:
            addresses: list[str] | None = None
            while (seconds := self._attempt_seconds()) is not None:
                claimed = self._claim(seconds)
                if not claimed.events:
                    return
                try:
                    addresses = addresses or self.receiver.addresses()
                except AddressRefused as refused:
                    attempted = [Attempt("failed", str(refused))] * len(claimed.events)
                else:
                    # resolving may have taken seconds
                    seconds = self._attempt_seconds() or _SHORTEST_ATTEMPT_SECONDS
                    sending = [send(client, self.receiver, event, addresses, seconds) for event in claimed.events]
                    attempted = await asyncio.gather(*sending)
                self._settle(claimed, attempted)
                if not any(attempt.outcome == "delivered" for attempt in attempted):
                    return

    def _attempt_seconds(self) -> float | None:
        """The time-out of an attempt that starts now; None when there is no time for one."""
        left = self.deadline - time.monotonic() - _RESERVE_SECONDS
        return min(_ATTEMPT_SECONDS, left) if left >= _SHORTEST_ATTEMPT_SECONDS else None

    def _claim(self, seconds: float) -> Claim:
        arguments = {"p_limit": _ROUND, "p_seconds": math.ceil(seconds + _CLAIM_MARGIN_SECONDS)}
        claimed = self._call(Claim, "lull_claim_deliveries", arguments)
        self.report.pending = claimed.pending
        return claimed

    def _settle(self, claimed: Claim, attempted: list[Attempt]) -> None:
        """Store the results of a round. Repeated once after a lost answer; the repetition changes nothing."""
        self.errors.update(attempt.error for attempt in attempted if attempt.error is not None)
        results = [
            {"id": event.id, "outcome": attempt.outcome, "error": attempt.error}
            for event, attempt in zip(claimed.events, attempted, strict=True)
        ]
        arguments = {"p_claim": claimed.claim, "p_results": results}
        try:
            answer = self._call(Settled, "lull_settle_deliveries", arguments)
        except DatabaseUnavailable:
            answer = self._call(Settled, "lull_settle_deliveries", arguments)
        self.report.delivered += answer.delivered
        self.report.failed += answer.failed
        self.report.dead += answer.dead
        self.report.pending = answer.pending

    def _call(self, model: type[Answer], function: str, arguments: dict[str, Any]) -> Answer:
        left = max(_SHORTEST_CALL_SECONDS, self.deadline - time.monotonic())
        answer = self.database.call(function, arguments, timeout_seconds=min(_DATABASE_SECONDS, left))
        return model.model_validate(answer)
