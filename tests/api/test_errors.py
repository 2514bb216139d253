"""Every error is a problem (RFC 9457), and a 5xx shows no internals."""

import httpx
import pytest
from fastapi import FastAPI

from api.composition import create_app
from api.errors import DatabaseRefusal, from_database_error
from tests.calls import CLEANUP, settings
from tests.in_process import client_of


def answer_of(app: FastAPI, method: str, path: str) -> httpx.Response:
    with client_of(app) as client:
        return client.request(method, path)


def test_an_unknown_address_is_a_problem() -> None:
    answer = answer_of(create_app(settings()), "GET", "/api/nothing")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:lull:problem:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "There is nothing at this address.",
    }


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", CLEANUP + "/", "/API/HEALTH"])
def test_an_unknown_address_is_404(path: str) -> None:
    assert answer_of(create_app(settings()), "GET", path).status_code == 404


def test_a_wrong_method_names_the_right_ones() -> None:
    answer = answer_of(create_app(settings()), "DELETE", CLEANUP)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert answer.json()["detail"] == "DELETE is not possible here, only GET, HEAD, POST."


def test_an_unforeseen_fault_shows_nothing_and_logs_everything(capsys: pytest.CaptureFixture[str]) -> None:
    app = create_app(settings())

    @app.get("/api/broken")
    def broken() -> None:
        raise RuntimeError("a detail of the inside")

    answer = answer_of(app, "GET", "/api/broken")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:lull:problem:internal-error"
    assert "inside" not in answer.text
    assert "a detail of the inside" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "details", "status", "slug"),
    [
        ("PT409", "lease-lost", 409, "lease-lost"),
        ("PT422", None, 422, "refused"),
        ("PT404", "Not A Slug", 404, "refused"),
        ("PGRST202", "searched for …", 503, "not-migrated"),
        ("PGRST000", None, 503, "database-unavailable"),
        ("PGRST003", None, 503, "database-unavailable"),
        ("PGRST301", None, 503, "database-refused"),
        ("401", None, 503, "database-refused"),
        ("42501", None, 503, "database-refused"),
        ("57014", None, 503, "database-timeout"),
        ("57P01", None, 503, "database-unavailable"),
        ("53300", None, 503, "database-unavailable"),
        ("40P01", None, 503, "database-unavailable"),
        ("502", "<html>", 503, "database-unavailable"),
        ("42P01", "relation secret.table", 500, "internal-error"),
        (None, None, 503, "database-unavailable"),
    ],
)
def test_database_errors_become_problems(
    code: str | None, details: str | None, status: int, slug: str
) -> None:
    problem = from_database_error(DatabaseRefusal(code, "a sentence", details), "A_VARIABLE")
    assert (problem.status, problem.slug) == (status, slug)
    assert (problem.detail == "a sentence") == str(code).startswith("PT")


def test_every_route_documents_its_errors_as_problems() -> None:
    document = answer_of(create_app(settings()), "GET", "/api/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        errors = [status for status in operation["responses"] if status >= "400"]
        usual = {"introduce": set(), "health": set(), "showCleanupHealth": {"500", "503"},
                "showExpiredPage": set(), "showClient": set(), "showStyles": set(), "showIcon": set(),
                "showDashboard": set()}  # fmt: skip
        assert usual.get(operation["operationId"], {"401", "500", "503"}) <= set(errors)
        for status in errors:
            schema = operation["responses"][status]["content"]["application/problem+json"]["schema"]
            assert {"type", "title", "status", "detail", "errors"} == set(schema["properties"])
