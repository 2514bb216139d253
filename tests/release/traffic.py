"""Users and schedulers who do not know that a deploy is going on: a request reaches one release's API or the other's."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from threading import Event
from time import monotonic
from typing import Any

import httpx

from tests.callers import SESSIONS, Headers, as_holder
from tests.calls import CLEANUP
from tests.release.project import STATUSES


@dataclass
class Traffic:
    """Threads that live with sessions, come back to stale drafts and run the cleanup while something else is done.

    `told` is what each session's owner was told last, `deleted` what the runs said, `failed` every answer that was
    no success, with the moment at which it was asked for.
    """

    apis: list[httpx.Client]
    admin: Headers
    service: Headers
    returning_to: list[str]
    told: dict[str, tuple[str, Headers]] = field(default_factory=dict)
    deleted: int = 0
    failed: list[tuple[float, str]] = field(default_factory=list)
    stopping: Event = field(default_factory=Event)

    def during(self, work: Callable[[], object]) -> None:
        """Let it all go on while the work is done, and until every draft was returned to."""
        with ThreadPoolExecutor() as pool:
            going = [pool.submit(self._live, turns) for turns in (self.apis, self.apis[::-1])]
            going.append(pool.submit(self._clean_up))
            returning = pool.submit(self._return)
            try:
                work()
                returning.result()
            finally:
                self.stopping.set()
            for each in going:
                each.result()

    def lost(self) -> list[str]:
        """Say which sessions are not as their owners were told."""
        found = []
        for session, (status, owner) in self.told.items():
            answer = self.apis[0].get(session, headers=owner)
            if answer.status_code != 200 or answer.json()["session"]["status"] != status:
                found.append(f"{session} was {status}: {answer.text}")
        return found

    def _live(self, apis: list[httpx.Client]) -> None:
        turns = cycle(apis)
        for steps in cycle(STATUSES.values()):
            if self.stopping.is_set():
                return
            created = self._post(next(turns), SESSIONS, {}, json={"kind": "chat"})
            if created is None:
                continue
            session, owner = created.headers["location"], as_holder(created.json()["sessionToken"])
            self.told[session] = ("draft", owner)
            for step in steps:
                answer = self._post(next(turns), f"{session}/{step}", owner)
                if answer is None:
                    break
                self.told[session] = (answer.json()["session"]["status"], owner)

    def _return(self) -> None:
        for id_, api in zip(self.returning_to, cycle(self.apis), strict=False):
            answer = self._post(api, f"{SESSIONS}/{id_}/activate", self.service)
            if answer is not None:
                self.told[f"{SESSIONS}/{id_}"] = (answer.json()["session"]["status"], self.service)

    def _clean_up(self) -> None:
        """Start a run at each API at once, again and again."""
        with ThreadPoolExecutor(len(self.apis)) as pool:
            while not self.stopping.is_set():
                for run in pool.map(lambda api: self._ask(api, CLEANUP, self.admin), self.apis):
                    self.deleted += run.json().get("deleted", 0)

    def _post(self, api: httpx.Client, path: str, headers: Headers, **body: Any) -> httpx.Response | None:
        answer = self._ask(api, path, headers, **body)
        return answer if answer.is_success else None

    def _ask(self, api: httpx.Client, path: str, headers: Headers, **body: Any) -> httpx.Response:
        began = monotonic()
        answer = api.post(path, headers=headers, **body)
        if not answer.is_success:
            self.failed.append((began, f"{path}: {answer.status_code} {answer.text}"))
        return answer
