"""What a run tells people and monitors: a cron monitor is pinged, and alerts are logged and sent to a chat.

Nothing here fails a run, and none of it counts against the run's time budget.
"""

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import httpx
from pydantic import BaseModel, SecretStr

from api import telemetry
from api.cleanup.answers import Begun, FinishedRun
from api.database import Database
from api.errors import Problem

log = logging.getLogger("lull.alerts")

_SECONDS = 2.0  # for an attempt of a ping or a webhook
_DATABASE_SECONDS = 10.0  # the functions' own statement time-out is 8
_LONGEST_PAUSE_SECONDS = 7 * 86_400  # from then on a paused call is a failed one
_LONGEST_BODY = 2048  # bytes
_MOST_POLICIES = 40

Ping = Literal["/start", "", "/fail"]


class Alert(BaseModel):
    """A condition that holds or is over: see sql/functions/insight/alerts.sql."""

    name: str
    policy: str
    since: datetime
    sentence: str
    state: Literal["raised", "lasts", "cleared"]

    def text(self) -> str:
        """One line for a chat."""
        lasts = f" It lasts since {self.since:%Y-%m-%dT%H:%M:%SZ}." if self.state == "lasts" else ""
        over = "Over: " if self.state == "cleared" else ""
        return f"Lull, {self.name}: {over}{self.sentence}{lasts}"


class _Alerts(BaseModel):
    """`lull_judge_alerts`."""

    alerts: list[Alert]


@dataclass(frozen=True)
class Signals:
    """The receivers in the settings: CLEANUP_PING_URL, ALERT_WEBHOOK_URL; each None where it is not set."""

    database: Database
    interval_minutes: int
    ping_url: SecretStr | None = None
    webhook_url: SecretStr | None = None

    def started(self, run_id: str) -> None:
        """Ping that a scheduled run began."""
        telemetry.check_in(run_id, "in_progress")
        self._ping("/start", run_id, "")

    def finished(self, report: FinishedRun) -> None:
        """Ping how a scheduled run ended. One whose time was up is a success: the next run goes on."""
        ending: Ping = "" if report.status in {"completed", "partial"} else "/fail"
        telemetry.check_in(report.run_id, "error" if ending else "ok")
        counts = [f"{line.policy}: {line.outcome}, {line.did} deleted" for line in report.policies]
        shadow = " (shadow: nothing was deleted)" if report.mode == "shadow" else ""
        self._ping(ending, report.run_id, "\n".join([f"{report.status}{shadow}", *counts[:_MOST_POLICIES]]))

    def failed(self, run_id: str, reason: str) -> None:
        """Ping that a scheduled run broke off."""
        telemetry.check_in(run_id, "error")
        self._ping("/fail", run_id, reason)

    def skipped(self, begun: Begun) -> None:
        """Ping that a scheduled call found the cleanup paused: a success, and a failure from the 7th day on."""
        if begun.reason == "paused" and begun.since is not None:
            paused = (datetime.now(UTC) - datetime.fromisoformat(begun.since)).total_seconds()
            self._ping("/fail" if paused > _LONGEST_PAUSE_SECONDS else "", None, begun.message or "")

    def tell(self) -> None:
        """Log the alerts that are to be told now, and send them to the webhook. What it does not take is told again."""
        try:
            arguments = {"p_interval_minutes": self.interval_minutes}
            answer = self.database.call("lull_judge_alerts", arguments, timeout_seconds=_DATABASE_SECONDS)
            told = [alert for alert in _Alerts.model_validate(answer).alerts if self._tell(alert)]
            if told:
                named = [alert.model_dump(include={"name", "policy"}) for alert in told]
                self.database.call("lull_settle_alerts", {"p_told": named}, timeout_seconds=_DATABASE_SECONDS)
        except Problem as problem:
            log.warning("alerts were not judged", extra={"fields": {"error": problem.detail}})

    def _tell(self, alert: Alert) -> bool:
        fields = {"condition": alert.name, "policy": alert.policy or None, "since": alert.since.isoformat()}
        level = logging.INFO if alert.state == "cleared" else logging.ERROR
        log.log(level, f"alert {alert.state}", extra={"fields": {**fields, "error": alert.sentence}})
        if self.webhook_url is None:
            return True
        body = {"text": alert.text(), "content": alert.text(), "state": alert.state, "service": "lull", **fields}
        content = json.dumps(body, ensure_ascii=False).encode()
        return _sent("alert webhook", self.webhook_url, content, "application/json")

    def _ping(self, ending: Ping, run_id: str | None, said: str) -> None:
        if self.ping_url is None:
            return
        address = httpx.URL(self.ping_url.get_secret_value())
        url = address.copy_with(path=address.path.rstrip("/") + ending)
        if run_id is not None:
            url = url.copy_merge_params({"rid": run_id})
        _sent("ping", SecretStr(str(url)), said.encode()[:_LONGEST_BODY], "text/plain; charset=utf-8")


def _sent(what: str, url: SecretStr, content: bytes, media_type: str) -> bool:
    """Whether a receiver took a message: two attempts of 2 s. The log has the reason, not the URL."""
    reason = ""
    for _ in range(2):
        began = time.monotonic()
        try:
            with httpx.Client(timeout=_SECONDS, trust_env=False, follow_redirects=False) as client:
                answer = client.post(url.get_secret_value(), content=content, headers={"Content-Type": media_type})
            if answer.is_success:
                return True
            reason = f"the receiver answered {answer.status_code}"
        except (httpx.HTTPError, OSError) as error:
            reason = f"{type(error).__name__} after {time.monotonic() - began:.1f} s"
    log.warning(f"{what} was not delivered", extra={"fields": {"error": reason}})
    return False
