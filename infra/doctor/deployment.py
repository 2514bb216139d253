"""The checks of a deployment by URL: its public routes, and its own report to the admin."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import ValidationError

from api import __version__
from api.cleanup.policies import PolicyError, load_policies
from api.cleanup.report import PATH
from api.doctor.check_result import CheckResult, fail, not_checked, ok
from api.doctor.examination import check_clock, skew_seconds
from api.doctor.schemas import DoctorReport
from api.http.sentences import some
from api.settings import Settings
from infra.doctor.here import compared
from infra.doctor.release import Release, check_vercel_cron

_SECONDS = 30  # more than the deployment's own limits and a cold start together
_OF_THE_ADMIN = (
    "secrets", "flag", "user-sessions", "webhook", "database", "postgres", "grants", "policies", "indexes",
    "schedule", "runs", "events", "autovacuum", "clock", "bucket", "migrations", "functions", "policy-file",
)  # fmt: skip


def open_client(url: str) -> httpx.Client:
    """A client of the deployment. It follows no redirect, so that the secret reaches no other host."""
    headers = {"User-Agent": f"lull-doctor/{__version__}"}
    return httpx.Client(base_url=url, timeout=_SECONDS, headers=headers)


def checks_by_url(
    client: httpx.Client, secret: str, release: Release, policies_file: str | None = None
) -> list[CheckResult]:
    """Every check that is possible over HTTP with the admin secret."""
    reached, answer = _reach(client)
    if answer is None:
        why = "the deployment was not reached"
        names = ("health", "guard", *_OF_THE_ADMIN)
        return [*reached, *(not_checked(name, why) for name in names), *check_vercel_cron()]
    health, interval = _health(client)
    on_vercel = "x-vercel-id" in answer.headers
    return [
        *reached,
        health,
        _guard(client),
        *_admin(client, secret, release, policies_file),
        *check_vercel_cron(interval_minutes=interval if on_vercel else None),
    ]


def _reach(client: httpx.Client) -> tuple[list[CheckResult], httpx.Response | None]:
    """Check /api/health: reachable, version, clock. Returns None instead of the answer when Lull does not answer."""
    before = datetime.now(UTC)
    try:
        answer = client.get("/api/health")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"Nothing answers at {client.base_url}: {type(error).__name__} {error}"
        fix = "check the URL, and whether the last deployment succeeded"
        return [fail("reach", message.strip(), fix)], None
    after = datetime.now(UTC)
    body = _json(answer)
    if answer.status_code != 200 or body.get("status") != "ok":
        return [_no_health(answer)], None
    version = body.get("version")
    found = [ok("reach", f"{client.base_url} answers in {(after - before).total_seconds() * 1000:.0f} ms")]
    if version != __version__:
        message = f"The deployment runs {version}, this checkout is {__version__}."
        found.append(fail("version", message, "deploy this checkout, or run the doctor of the deployed one"))
    else:
        found.append(ok("version", f"{version}, as this checkout"))
    return [*found, _clock_here(answer, before, after)], answer


def _no_health(answer: httpx.Response) -> CheckResult:
    """Describe what answers instead of Lull."""
    if answer.is_redirect:
        message = f"It redirects to {answer.headers.get('location', 'nowhere')}."
        return fail("reach", message, "use that address; a scheduler does not follow redirects either")
    if answer.status_code in (401, 403):
        message = f"Something in front of Lull answers {answer.status_code}."
        fix = "on Vercel: Settings > Deployment Protection (production must be open; Lull guards itself)"
        return fail("reach", message, fix)
    if answer.status_code >= 500:
        message = f"It answers {answer.status_code}: most likely Lull does not start."
        return fail("reach", message, "read the function's log: its last line names a bad variable")
    message = f"What answers ({answer.status_code}) is not Lull."
    return fail("reach", message, "check the URL: it is the address before /api")


def _clock_here(answer: httpx.Response, before: datetime, after: datetime) -> CheckResult:
    """Compare clocks by the Date header, which has whole seconds: a difference of one second is ignored."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return not_checked("clock-here", "the answer has no Date")
    skew = skew_seconds(before.replace(microsecond=0), theirs, after)
    return check_clock("clock-here", "this machine", "the deployment", skew)


def _health(client: httpx.Client) -> tuple[CheckResult, int | None]:
    """/api/health/cleanup, which monitors read; and the interval that the deployment expects."""
    answer = _get(client, "/api/health/cleanup")
    body = _json(answer)
    interval = body.get("intervalMinutes")
    known = interval if isinstance(interval, int) else None
    if answer is not None and answer.status_code == 200:
        return ok("health", f"/api/health/cleanup answers 200, {body.get('status')}"), known
    if kind := str(body.get("type", "")).removeprefix("urn:lull:problem:"):
        message = f"/api/health/cleanup answers {body.get('status')} {kind}: {body.get('detail')}"
        return fail("health", message, "see schedule, runs and database"), known
    return fail("health", "/api/health/cleanup does not answer.", "read the function's log"), known


def _guard(client: httpx.Client) -> CheckResult:
    """Without the secret, the cleanup route answers 401."""
    answer = _get(client, PATH)
    if answer is not None and answer.status_code == 401:
        return ok("guard", f"{PATH} answers 401 without the secret")
    if answer is not None and answer.status_code == 503 and "CRON_SECRET" in str(_json(answer).get("detail")):
        message = "CRON_SECRET is missing or too short there: the cleanup answers 503 to all callers."
        return fail("guard", message, "set it to the output of `openssl rand -base64 32`, then redeploy")
    status = answer.status_code if answer is not None else "nothing"
    return fail("guard", f"{PATH} answers {status} without the secret, not 401.", "redeploy this release")


def _admin(client: httpx.Client, secret: str, release: Release, policies_file: str | None) -> list[CheckResult]:
    """The deployment's own report, compared with this checkout."""
    answer = _get(client, "/api/admin/doctor", {"Authorization": f"Bearer {secret}"})
    if answer is None or answer.status_code != 200:
        refusal = _refusal(answer)
        return [refusal, *(not_checked(name, "see secret") for name in _OF_THE_ADMIN)]
    try:
        report = DoctorReport.model_validate(_json(answer))
    except ValidationError:
        message = "The deployment's answer has the format of another release."
        refusal = fail("secret", message, "deploy this checkout, or run the doctor of the deployed one")
        return [refusal, *(not_checked(name, "see secret") for name in _OF_THE_ADMIN)]
    return [
        ok("secret", "the deployment accepts this CRON_SECRET"),
        *compared(release, report.checks, report.database_state, report),
        *_policy_file(report.policies, policies_file),
    ]


def _refusal(answer: httpx.Response | None) -> CheckResult:
    if answer is None:
        return fail("secret", "/api/admin/doctor does not answer.", "read the function's log")
    if answer.status_code == 401:
        message = "The deployment refuses this CRON_SECRET: it has another one."
        return fail("secret", message, "take it from the platform's variables; redeploy after a change there")
    if answer.status_code == 404:
        message = "The deployment has no /api/admin/doctor: its release is older than 0.2.0."
        return fail("secret", message, "deploy this checkout")
    detail = _json(answer).get("detail") or "no reason given"
    return fail("secret", f"/api/admin/doctor answers {answer.status_code}: {detail}", "fix what it names")


def _policy_file(theirs: list[dict[str, Any]], file: str | None) -> list[CheckResult]:
    """This checkout's policies file is the deployed one. Ages that a variable sets are not compared."""
    settings = Settings.model_construct(policies_file=file)
    try:
        policies = load_policies(settings)
    except PolicyError as error:
        return [fail("policy-file", f"This checkout's file cannot be used. {error}", "correct it")]
    here = {policy.name: policy.arguments() for policy in policies}
    there = {str(policy.get("name")): policy for policy in theirs}
    by_variable = {policy.name for policy in policies if policy.age_variable}
    found = [f"{name} is only here" for name in here.keys() - there.keys()]
    found += [f"{name} is only there" for name in there.keys() - here.keys()]
    for name in here.keys() & there.keys():
        ignored = {"age_seconds"} if name in by_variable else set()
        found += [
            f"{name}: {field} is {there[name].get(field)} there and {value} here"
            for field, value in here[name].items()
            if field not in ignored and there[name].get(field) != value
        ]
    if not found:
        return [ok("policy-file", "this checkout's is the deployed one")]
    message = f"This checkout's policies are not the deployed ones: {some(sorted(found), 3)}."
    return [fail("policy-file", message, "deploy this checkout (or set POLICIES_FILE here as it is there)")]


def _get(client: httpx.Client, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response | None:
    try:
        return client.get(path, headers=headers)
    except httpx.HTTPError:
        return None


def _json(answer: httpx.Response | None) -> dict[str, Any]:
    """The JSON object in an answer; empty when there is none."""
    try:
        body = answer.json() if answer is not None else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
