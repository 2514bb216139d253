"""The template as a running stack, on ministack: the schedule fires and the cleanup runs on the local Supabase.

ministack is an emulator: that AWS accepts the template is for test_aws_template.py to say.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from infra.aws.parameters import SECRETS
from infra.local.stack import LocalSupabase
from tests.calls import CLEANUP, add_drafts, count_sessions
from tests.release.aws_emulator import REGION, Aws
from tests.release.aws_tools import ARCHITECTURE, TEMPLATE
from tests.release.conftest import Bundle

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("shipped_policies")]
Sql = psycopg.Connection[Any]
ACCOUNT, PATH = "000000000000", "/lull/testing"


@pytest.fixture(scope="module")
def aws(emulator: Aws, bundle: Bundle, running_stack: LocalSupabase) -> Iterator[Aws]:
    """The stack, made as `sam deploy` makes it: the bundle in a bucket, the secrets in Parameter Store."""
    s3, ssm, settings = emulator.client("s3"), emulator.client("ssm"), running_stack.environment()
    s3.create_bucket(Bucket="bundles", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="bundles", Key="lull.zip", Body=bundle.zip.read_bytes())
    for name in sorted(set(SECRETS) & set(settings) - {"DATABASE_URL"}):  # the bundle has no psycopg
        ssm.put_parameter(Name=f"{PATH}/{name}", Value=settings[name], Type="SecureString")
    template = TEMPLATE.read_text()
    here = "CodeUri: ../../.local/aws/lull.zip"
    assert here in template
    parameters = {
        "Stage": "testing",
        "SupabaseUrl": running_stack.supabase_url,
        "CleanupInterval": "1-minute",
        "Architecture": ARCHITECTURE,
    }
    emulator.create_stack(template.replace(here, "CodeUri: {Bucket: bundles, Key: lull.zip}"), parameters)
    yield emulator
    emulator.client("cloudformation").delete_stack(StackName="lull")  # and with it the schedule


def wait_for(probe: Callable[[], Any], seconds: float) -> Any:
    """Return the probe's answer as soon as it is a true one."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"nothing came within {seconds} s"
        time.sleep(0.5)
    return answer


def counted_lines(aws: Aws) -> list[dict[str, Any]]:
    """The lines of the log that the metric of runs counts, judged here: to the emulator every line matches."""
    logs, group = aws.client("logs"), aws.outputs["LogGroup"]
    (counted,) = logs.describe_metric_filters(logGroupName=group)["metricFilters"]
    term = r'\$\.(\w+) = "([^"]*)"'
    assert re.fullmatch(rf"{{ {term}( && {term})* }}", counted["filterPattern"])
    wanted = dict(re.findall(term, counted["filterPattern"])).items()
    events = logs.filter_log_events(logGroupName=group)["events"]
    lines = [json.loads(event["message"]) for event in events if event["message"].startswith("{")]
    return [line for line in lines if wanted <= {key: str(line[key]) for key in line}.items()]


def test_the_url_serves_the_api_with_the_secrets_of_parameter_store(
    aws: Aws, stack: LocalSupabase, admin: dict[str, str], sql: Sql
) -> None:
    add_drafts(sql, 2)
    with httpx.Client(base_url=aws.address, trust_env=False, timeout=60) as client:
        host = {"Host": httpx.URL(aws.outputs["Url"]).netloc.decode()}
        assert client.get("/api/health", headers=host).json()["status"] == "ok"
        assert client.get(CLEANUP, headers=host).status_code == 401
        dry_run = client.get(CLEANUP, headers=host | admin).json()
    assert (dry_run["dryRun"], dry_run["wouldDelete"]) == (True, 2)


def test_the_function_may_read_its_own_secrets_and_nothing_else(aws: Aws) -> None:
    iam, role = aws.client("iam"), aws.resources["FunctionRole"]
    allowed: dict[str, list[str]] = {}
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        for statement in document["Statement"]:
            actions, resources = statement["Action"], statement["Resource"]
            for action in [actions] if isinstance(actions, str) else actions:
                allowed[action] = [resources] if isinstance(resources, str) else resources
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    at = f"{REGION}:{ACCOUNT}"
    logs = [f"arn:aws:logs:{at}:log-group:{aws.outputs['LogGroup']}:*"]
    assert allowed == {
        "logs:CreateLogStream": logs,
        "logs:PutLogEvents": logs,
        "sqs:SendMessage": [f"arn:aws:sqs:{at}:{aws.outputs['FailedRunsQueue'].rpartition('/')[2]}"],
        "ssm:GetParameters": [f"arn:aws:ssm:{at}:parameter{PATH}/{name}" for name in SECRETS],
    }


def test_no_secret_is_in_the_functions_configuration(aws: Aws, environment: dict[str, str]) -> None:
    name = aws.outputs["FunctionName"]
    shown = json.dumps(aws.client("lambda").get_function_configuration(FunctionName=name), default=str)
    assert '"LULL_PARAMETERS": "/lull/testing"' in shown
    assert '"CLEANUP_INTERVAL_MINUTES": "1"' in shown
    assert [secret for secret in SECRETS if environment.get(secret, "\0") in shown] == []


def test_a_run_that_fails_fails_for_lambda_too(aws: Aws, sql: Sql) -> None:
    sql.execute("alter table lull.sessions rename column first_message_at to moved")
    try:
        failed, answer = aws.invoke({"task": "cleanup"})
    finally:
        sql.execute("alter table lull.sessions rename column moved to first_message_at")
    assert failed
    assert "abandoned-drafts" in answer["errorMessage"]


def test_the_schedule_fires_and_the_cleanup_runs(aws: Aws, sql: Sql) -> None:
    add_drafts(sql, 25)
    add_drafts(sql, 1, age="23 h")
    ended = "select caller, status from lull.cleanup_runs where finished_at is not null"
    run = wait_for(lambda: sql.execute(ended).fetchone(), 100)
    assert run == {"caller": "aws-scheduler", "status": "completed"}
    assert count_sessions(sql) == 1  # the one of 23 hours
    assert wait_for(lambda: counted_lines(aws), 20)[-1]["status"] == "completed"
    queue = aws.client("sqs").receive_message(QueueUrl=aws.outputs["FailedRunsQueue"])
    assert "Messages" not in queue
