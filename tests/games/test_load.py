"""Many games at once from 8 clients, some commands sent twice. `make bench` plays 1,000 games of 100 commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from random import Random

import httpx
import pytest

from infra.local import ports
from infra.local.processes import Child
from infra.local.stack import LocalSupabase, start_api
from tests import policies
from tests.callers import SESSIONS, as_service
from tests.conftest import UNLIMITED
from tests.games.calls import Sql
from tests.scale import SCALE

CLIENTS = 8
MOST_TRIES = 20
GAMES, COMMANDS = (40, 10) if SCALE == 1 else (100 * SCALE, 10 * SCALE)


class Player:
    """One client: a part of the games, each command on the version before it, one in ten of them sent twice at once."""

    def __init__(self, url: str, headers: dict[str, str], games: list[str], seed: int) -> None:
        self._games, self._random = games, Random(seed)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
        self._again = ThreadPoolExecutor(1)
        self.sent = 0

    def play(self, numbers: range) -> None:
        for number in numbers:
            for game in self._games:
                sent = [self._again.submit(self._send, game, number)] if self._random.random() < 0.1 else []
                answers = [self._send(game, number), *(each.result() for each in sent)]
                assert [answer.status_code for answer in answers] == [200] * len(answers), answers[0].text
                assert {answer.json()["version"] for answer in answers} == {number + 1}
                self.sent += len(answers)

    def _send(self, game: str, number: int) -> httpx.Response:
        """Send a command, and again where the database was too busy: the id makes that safe."""
        body = {"commandId": f"c-{number}", "name": "add", "version": number, "patch": {"n": number}}
        for _ in range(MOST_TRIES):
            answer = self._http.post(f"{SESSIONS}/{game}/commands", json=body)
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                break
        return answer

    def close(self) -> None:
        self._again.shutdown()
        self._http.close()


@pytest.fixture
def server(stack: LocalSupabase, tmp_path: Path) -> Iterator[tuple[str, Child]]:
    """An API of the test's own: its memory is measured."""
    port = ports.find_free()
    environment = stack.environment() | UNLIMITED | policies.ENVIRONMENT
    child = start_api(environment, port, environ=os.environ, log=tmp_path / "api.log")
    yield f"http://{ports.HOST}:{port}", child
    child.stop()


def resident(child: Child) -> int:
    """The memory of a process in kB."""
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.timeout(3600)
def test_under_load_versions_are_exact_and_no_event_is_lost_or_doubled(
    server: tuple[str, Child], environment: dict[str, str], sql: Sql
) -> None:
    url, child = server
    headers = as_service(environment)
    sql.execute(
        "insert into lull.sessions (kind, status, guild_id, mode, external_key) "
        "select 'game', 'active', 'guild-' || n %% 50, 'duel', n::text from generate_series(1, %s) n",
        (GAMES,),
    )
    ids = [str(row["id"]) for row in sql.execute("select id from lull.sessions").fetchall()]
    tenth = COMMANDS // 10
    with ExitStack() as open_players, ThreadPoolExecutor(CLIENTS) as pool:
        players = [Player(url, headers, ids[number::CLIENTS], number) for number in range(CLIENTS)]
        for player in players:
            open_players.callback(player.close)
        list(pool.map(lambda player: player.play(range(1, 1 + tenth)), players))
        at_a_tenth = resident(child)
        list(pool.map(lambda player: player.play(range(1 + tenth, 1 + COMMANDS)), players))
        at_the_end = resident(child)
    assert sum(player.sent for player in players) > 1.05 * GAMES * COMMANDS
    states = sql.execute("select distinct version, state from lull.sessions").fetchall()
    assert states == [{"version": COMMANDS + 1, "state": {"n": COMMANDS}}]
    events = sql.execute(
        "select count(*) as n, count(distinct (session_id, data ->> 'version')) as distinct_n "
        "from lull.session_events where event = 'command_processed'"
    ).fetchone()
    assert events == {"n": GAMES * COMMANDS, "distinct_n": GAMES * COMMANDS}
    assert SCALE < 10 or at_the_end <= 1.1 * at_a_tenth, f"{at_a_tenth} kB at a tenth, {at_the_end} kB at the end"
