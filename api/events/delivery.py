"""Delivering: claim events, send them beside one another, settle; until none is due or the time is up.

A round is the first events of up to sixteen sessions, so that order within a session needs no rule here. A
round in which nothing was delivered is the last: a receiver that is down, slow or gone costs one round.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from api.database import Database
from api.errors import DatabaseUnavailable
from api.events.addresses import AddressRefused
from api.events.webhook import Receiver, Verdict, create_receiver, open_client, send
from api.settings import Settings
from api.wire import Answer

log = logging.getLogger("lull.events")

AFTER_RUN_SECONDS = 8.0
_ROUND = 16
_ATTEMPT_SECONDS = 5.0
_SHORTEST_ATTEMPT_SECONDS = 1.0
_RESERVE_SECONDS = 1.0  # of a round, for claiming and settling
_CLAIM_MARGIN_SECONDS = 15.0  # a claim outlives the attempt, so that nobody else sends meanwhile
_SHORTEST_CALL_SECONDS = 2.0
_DATABASE_SECONDS = 10.0  # the functions' own statement time-out is 8


class DeliveryReport(Answer):
    """What became of the events that were due."""

    delivered: int = 0
    failed: int = Field(default=0, description="Attempts that failed; these events are tried again later.")
    dead: int = Field(default=0, description="Events given up: after 24 hours of trying, or by a 410.")
    pending: int = Field(default=0, description="Events that wait to be delivered, failed ones included.")
    errors: dict[str, int] = Field(default={}, description="Why attempts failed, and how many did.")


@dataclass(frozen=True)
class Webhooks:
    """What delivering works with; whether there is a usable receiver is found out when delivering."""

    settings: Settings
    database: Database

    @property
    def wanted(self) -> bool:
        """Whether an operator has asked for webhooks at all."""
        return self.settings.events_webhook_url is not None


def deliver_after_run(webhooks: Webhooks, seconds_left: float) -> None:
    """Deliver what is due after a cleanup run, within a small budget; nothing when webhooks are off."""
    if webhooks.wanted:
        deliver(create_receiver(webhooks.settings), webhooks.database, min(AFTER_RUN_SECONDS, seconds_left))


def deliver(receiver: Receiver, database: Database, seconds: float) -> DeliveryReport:
    """Deliver for `seconds` at most. Raises Problem when the database cannot be asked.

    Must not be called where an event loop is running.
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
    """Rounds over one connection pool, until a deadline. The database is asked only between the attempts."""

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
                if not claimed["events"]:
                    return
                try:
                    addresses = addresses or self.receiver.addresses()
                except AddressRefused as refused:
                    verdicts = [Verdict("failed", str(refused))] * len(claimed["events"])
                else:
                    # resolving may have taken a while
                    seconds = self._attempt_seconds() or _SHORTEST_ATTEMPT_SECONDS
                    attempts = [
                        send(client, self.receiver, event, addresses, seconds) for event in claimed["events"]
                    ]
                    verdicts = await asyncio.gather(*attempts)
                self._settle(claimed, verdicts)
                if not any(verdict.outcome == "delivered" for verdict in verdicts):
                    return

    def _attempt_seconds(self) -> float | None:
        """How long an attempt may take now; None when there is no time for one."""
        left = self.deadline - time.monotonic() - _RESERVE_SECONDS
        return min(_ATTEMPT_SECONDS, left) if left >= _SHORTEST_ATTEMPT_SECONDS else None

    def _claim(self, seconds: float) -> dict[str, Any]:
        arguments = {"p_limit": _ROUND, "p_seconds": math.ceil(seconds + _CLAIM_MARGIN_SECONDS)}
        claimed = self._call("lull_claim_deliveries", arguments)
        self.report.pending = claimed["pending"]
        return claimed

    def _settle(self, claimed: dict[str, Any], verdicts: list[Verdict]) -> None:
        """Say what became of a round; said twice when the first answer was lost, which changes nothing."""
        self.errors.update(verdict.error for verdict in verdicts if verdict.error is not None)
        results = [
            {"id": event["id"], "outcome": verdict.outcome, "error": verdict.error}
            for event, verdict in zip(claimed["events"], verdicts, strict=True)
        ]
        arguments = {"p_claim": claimed["claim"], "p_results": results}
        try:
            answer = self._call("lull_settle_deliveries", arguments)
        except DatabaseUnavailable:
            answer = self._call("lull_settle_deliveries", arguments)
        self.report.delivered += answer["delivered"]
        self.report.failed += answer["failed"]
        self.report.dead += answer["dead"]
        self.report.pending = answer["pending"]

    def _call(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        left = max(_SHORTEST_CALL_SECONDS, self.deadline - time.monotonic())
        return self.database.call(function, arguments, timeout_seconds=min(_DATABASE_SECONDS, left))
