"""Secrets from Parameter Store (ministack's): read, rotated under a warm function, and out of reach."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.aws.parameters import MAX_AGE_SECONDS, SECRETS, Parameters, ParametersUnavailable
from infra.local import ports
from tests.calls import CLEANUP
from tests.infra.test_lambda_entry import http_api
from tests.release.aws_emulator import KEYS, REGION, Aws

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("shipped_policies")]
PATH = "/lull/rotated"
FIRST, SECOND = "the-first-secret-of-the-tests", "the-second-secret-of-the-tests"


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(emulator: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty Parameter Store, which boto3 finds as it does on Lambda: by the environment."""
    given = {"AWS_ENDPOINT_URL": emulator.address, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["aws_access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["aws_secret_access_key"])
    ssm = emulator.client("ssm")
    yield ssm
    ssm.delete_parameters(Names=[f"{PATH}/{name}" for name in SECRETS])


def put(store: Any, name: str, value: str) -> None:
    store.put_parameter(Name=f"{PATH}/{name}", Value=value, Type="SecureString", Overwrite=True)


def test_a_rotated_secret_is_taken_up_after_some_minutes_and_a_deleted_one_is_unset(store: Any) -> None:
    clock, environ = Clock(), {"LULL_PARAMETERS": f"{PATH}/", "CRON_SECRET": "from the template"}
    put(store, "CRON_SECRET", FIRST)
    parameters = Parameters(environ, clock=clock)
    assert parameters.refresh()
    assert parameters.environ["CRON_SECRET"] == FIRST
    assert f"{PATH}/SUPABASE_SECRET_KEY" in parameters.absent
    assert f"{PATH}/CRON_SECRET" not in parameters.absent

    put(store, "CRON_SECRET", SECOND)
    put(store, "CRON_SECRET_PREVIOUS", FIRST)
    clock.now = MAX_AGE_SECONDS - 1
    assert not parameters.refresh()
    expiring = Parameters(environ, clock=clock)
    assert expiring.refresh()
    put(store, "CRON_SECRET", FIRST)
    assert not expiring.refresh()
    expiring.expire()  # as before a snapshot
    assert expiring.refresh()
    assert expiring.environ["CRON_SECRET"] == FIRST
    put(store, "CRON_SECRET", SECOND)
    clock.now = MAX_AGE_SECONDS
    assert parameters.refresh()
    read = parameters.environ
    assert (read["CRON_SECRET"], read["CRON_SECRET_PREVIOUS"]) == (SECOND, FIRST)

    store.delete_parameter(Name=f"{PATH}/CRON_SECRET_PREVIOUS")
    clock.now = 2 * MAX_AGE_SECONDS
    assert parameters.refresh()
    assert "CRON_SECRET_PREVIOUS" not in parameters.environ
    clock.now = 3 * MAX_AGE_SECONDS
    assert not parameters.refresh()


def test_without_a_path_the_environment_stays_as_it_is() -> None:
    parameters = Parameters({"CRON_SECRET": FIRST})
    assert not parameters.refresh()
    assert parameters.environ == {"CRON_SECRET": FIRST}


def test_a_store_out_of_reach_is_named_and_changes_nothing(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, environ = Clock(), {"LULL_PARAMETERS": PATH}
    put(store, "CRON_SECRET", FIRST)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{ports.HOST}:{ports.find_free()}")
    unreachable = Parameters(environ, clock=clock)
    for _ in range(2):
        with pytest.raises(ParametersUnavailable, match=f"^{PATH}: EndpointConnectionError$"):
            unreachable.refresh()
        clock.now += MAX_AGE_SECONDS
    assert unreachable.environ == {"LULL_PARAMETERS": PATH}


def test_an_error_of_the_store_is_named_by_its_code(
    store: Any, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", environment["SUPABASE_URL"])  # answers, but to no such caller
    with pytest.raises(ParametersUnavailable, match=f"^{PATH}: 401$"):
        Parameters({"LULL_PARAMETERS": PATH}).refresh()


@pytest.fixture
def answer(store: Any, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The status that the Lambda entry, warm and with its secrets in the store, gives to a secret."""
    from infra.aws.lambda_entry import Lull

    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
        if name in environment:
            put(store, name, environment[name])
    put(store, "CRON_SECRET", FIRST)
    monkeypatch.setenv("SUPABASE_URL", environment["SUPABASE_URL"])
    monkeypatch.setenv("LULL_PARAMETERS", PATH)
    lull = Lull(Parameters(os.environ, max_age_seconds=0))

    def ask(secret: str) -> int:
        status: int = lull.handle(http_api("GET", CLEANUP, {"authorization": f"Bearer {secret}"}), None)[
            "statusCode"
        ]
        return status

    return ask


def test_the_cron_secret_rotates_without_a_refused_run(store: Any, answer: Callable[[str], int]) -> None:
    assert (answer(FIRST), answer(SECOND)) == (200, 401)
    put(store, "CRON_SECRET_PREVIOUS", FIRST)
    assert (answer(FIRST), answer(SECOND)) == (200, 401)
    put(store, "CRON_SECRET", SECOND)
    assert (answer(FIRST), answer(SECOND)) == (200, 200)
    store.delete_parameter(Name=f"{PATH}/CRON_SECRET_PREVIOUS")
    assert (answer(FIRST), answer(SECOND)) == (401, 200)


def test_a_warm_function_goes_on_while_the_store_does_not_answer(
    emulator: Aws, answer: Callable[[str], int]
) -> None:
    started = time.monotonic()
    os.kill(emulator.pid, signal.SIGSTOP)
    try:
        assert answer(FIRST) == 200
    finally:
        os.kill(emulator.pid, signal.SIGCONT)
    assert time.monotonic() - started < 10  # what a function has beyond a run's budget
