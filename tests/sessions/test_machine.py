"""Random sequences of all calls by several callers, beside a model of what each of them must be told."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.callers import SESSIONS, Headers, as_holder, as_service, as_user, events_of, problem_of
from tests.calls import ADMIN, CLEANUP
from tests.database import truncate
from tests.scale import examples

Sql = psycopg.Connection[Any]

# Where a verb leads from each status; what is not here is a 409.
WAYS = {
    ("activate", "draft"): "active",
    ("activate", "active"): "active",
    ("pause", "active"): "paused",
    ("resume", "paused"): "active",
    **{("end", status): "ended" for status in ("draft", "active", "paused")},
}
EVENTS = {"activate": "activated", "pause": "paused", "resume": "resumed", "end": "ended"}
OF_GAMES = {"activate": ["initialized"], "end": ["terminated"]}
POLICIES = {
    ("chat", "draft"): "abandoned-drafts",
    ("room", "draft"): "unopened-rooms",
    ("game", "draft"): "unopened-games",
    ("game", "active"): "orphaned-games",
    ("room", "active"): "empty-rooms",
}


class Caller(NamedTuple):
    """Who calls: the service, or a user and the holder of a token, either of them or nobody."""

    service: bool
    user: int | None
    token: str | None  # "own", the one the session began with; "other"


@dataclass
class Known:
    """What must be true of a session."""

    first: httpx.Response
    request: dict[str, Any]
    headers: Headers
    kind: str
    status: str
    user: int | None
    token: bool
    version: int = 1
    where: str = "live"
    events: list[str] = field(default_factory=lambda: ["created"])

    def refusal(self, caller: Caller) -> tuple[int, str] | None:
        """What this caller is told instead of seeing it; None when they see it."""
        mine = caller.user is not None and caller.user == self.user
        if not (caller.service or mine or (self.token and caller.token == "own")):
            return 404, "not-found"
        refusals = {"archived": (410, "session-archived"), "gone": (410, "session-gone")}
        return refusals.get(self.where)


SERVICE = st.just(Caller(True, None, None))
OTHERS = st.builds(
    Caller, st.just(False), st.sampled_from([None, 0, 1]), st.sampled_from([None, "own", "other"])
)
CALLERS = SERVICE | OTHERS


class Machine(RuleBasedStateMachine):
    """The API, and what is known about it."""

    sessions = Bundle("sessions")

    def __init__(self, api: httpx.Client, environment: dict[str, str], sql: Sql) -> None:
        super().__init__()
        truncate(sql)
        self.api, self.sql = api, sql
        self.service = as_service(environment)
        self.users = [as_user(environment), as_user(environment)]
        self.known: dict[str, Known] = {}

    def headers(self, caller: Caller, address: str) -> Headers:
        if caller.service:
            return self.service
        own = self.known[address].first.json().get("sessionToken", "none")
        token = {"own": own, "other": "another"}.get(caller.token or "")
        return (self.users[caller.user] if caller.user is not None else {}) | (
            as_holder(token) if token else {}
        )

    @rule(
        target=sessions,
        kind=st.sampled_from(["chat", "game", "room"]),
        status=st.sampled_from(["draft", "active"]),
        user=st.sampled_from([None, 0, 1]),
    )
    def create(self, kind: str, status: str, user: int | None) -> str:
        request = {"kind": kind, "status": status}
        headers = {"Idempotency-Key": str(uuid4())} | (self.users[user] if user is not None else {})
        answer = self.api.post(SESSIONS, json=request, headers=headers)
        assert answer.status_code == 201
        address = answer.headers["location"]
        self.known[address] = Known(answer, request, headers, kind, status, user, token=user is None)
        if kind == "game" and status == "active":
            self.known[address].events.append("initialized")
        return address

    @rule(address=sessions)
    def create_again(self, address: str) -> None:
        known = self.known[address]
        answer = self.api.post(SESSIONS, json=known.request, headers=known.headers)
        assert (answer.status_code, answer.content) == (201, known.first.content)

    @rule(
        address=sessions,
        caller=CALLERS,
        verb=st.sampled_from([*EVENTS]),
        version=st.sampled_from([None, 0, 1]),
    )
    def change(self, address: str, caller: Caller, verb: str, version: int | None) -> None:
        known = self.known[address]
        headers = self.headers(caller, address)
        if version is not None:
            headers = headers | {"If-Match": f'"{known.version + version}"'}
        answer = self.api.post(f"{address}/{verb}", headers=headers)
        refusal = known.refusal(caller)
        status = WAYS.get((verb, known.status))
        if refusal and (verb, known.where, refusal[0]) != ("activate", "archived", 410):
            assert problem_of(answer) == refusal
        elif version == 1:
            assert problem_of(answer) == (412, "version-mismatch")
        elif status is None:
            assert problem_of(answer) == (409, "wrong-status")
            assert answer.json()["currentStatus"] == known.status
        else:
            known.events += ["restored"] if known.where == "archived" else []
            known.events += [EVENTS[verb]] if status != known.status else []
            if known.kind == "game" and status != known.status:
                known.events += OF_GAMES.get(verb, [])
            known.version += status != known.status
            known.status, known.where = status, "live"
            self.agrees(known, answer)

    @rule(address=sessions, caller=CALLERS)
    def claim(self, address: str, caller: Caller) -> None:
        known = self.known[address]
        answer = self.api.post(f"{address}/claim-ownership", headers=self.headers(caller, address))
        if caller.user is None:
            assert problem_of(answer) == (401, "unauthorized")
        elif refusal := known.refusal(caller):
            assert problem_of(answer) == refusal
        else:
            if known.user != caller.user:
                known.user, known.token = caller.user, False
                known.version += 1
                known.events.append("claimed")
            self.agrees(known, answer)

    @rule(address=sessions, caller=CALLERS)
    def read(self, address: str, caller: Caller) -> None:
        known = self.known[address]
        headers = self.headers(caller, address)
        answer = self.api.get(address, headers=headers)
        if refusal := known.refusal(caller):
            assert (
                problem_of(answer)
                == problem_of(self.api.get(f"{address}/events", headers=headers))
                == refusal
            )
        else:
            self.agrees(known, answer)
            told = [event for event in events_of(self.api, address, headers) if event != "returned"]
            assert told == known.events

    @rule(user=st.sampled_from([0, 1]))
    def list_own(self, user: int) -> None:
        page = self.api.get(f"{SESSIONS}?limit=100", headers=self.users[user]).json()
        own = [
            address for address, known in self.known.items() if (known.where, known.user) == ("live", user)
        ]
        assert {f"{SESSIONS}/{each['id']}" for each in page["sessions"]} == set(own)

    @rule(address=sessions)
    def grow_old(self, address: str) -> None:
        known = self.known[address]
        self.sql.execute(
            "update lull.sessions set last_activity_at = now() - interval '25 h' where id = %s",
            (address.rsplit("/", 1)[1],),
        )
        policy = POLICIES.get((known.kind, known.status))
        self.clean(policy or "abandoned-drafts")
        if known.where == "live" and policy:
            known.where = "archived"
            known.events.append("archived")

    @rule()
    def purge(self) -> None:
        self.sql.execute("update lull.archive_pages set purge_after = now() - interval '1 h'")
        self.clean("purge")
        for known in self.known.values():
            if known.where == "archived":
                known.where = "gone"
                known.events.append("purged")

    @invariant()
    def nothing_is_missing_doubled_or_impossible(self) -> None:
        rows = self.sql.execute("select id::text, status, version from lull.sessions").fetchall()
        live = {address: known for address, known in self.known.items() if known.where == "live"}
        assert {f"{SESSIONS}/{row['id']}": (row["status"], row["version"]) for row in rows} == {
            address: (known.status, known.version) for address, known in live.items()
        }
        log = self.sql.execute(
            "select session_id, array_agg(event order by id) as events from lull.session_events "
            "where event <> 'returned' group by 1"
        ).fetchall()
        assert {f"{SESSIONS}/{row['session_id']}": row["events"] for row in log} == {
            address: known.events for address, known in self.known.items()
        }

    def clean(self, policy: str) -> None:
        assert self.api.post(f"{CLEANUP}?policy={policy}", headers=ADMIN).status_code == 200

    def agrees(self, known: Known, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        session = answer.json()["session"]
        assert (session["status"], session["version"]) == (known.status, known.version)
        assert answer.headers["etag"] == f'"{known.version}"'


@pytest.mark.timeout(600)
def test_every_caller_is_told_the_truth_whatever_happened_before(
    early: httpx.Client, environment: dict[str, str], sql: Sql
) -> None:
    run_state_machine_as_test(
        lambda: Machine(early, environment, sql),  # type: ignore[arg-type] # a factory will do
        settings=settings(max_examples=examples(8), stateful_step_count=40, deadline=None, database=None),
    )
