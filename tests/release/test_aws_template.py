"""The SAM template: valid to AWS, and what this project asks of it beyond that."""

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from api.settings import Settings
from infra.aws.package import MACHINES, OUTPUT
from infra.aws.parameters import PATH, SECRETS
from tests.release.aws_tools import TEMPLATE, Python
from tests.release.schedule_expressions import check, seconds_of

pytestmark = pytest.mark.timeout(300)
Template = dict[str, Any]


class Lint:
    """What cfn-lint says to a template, as one line a finding."""

    def __init__(self, python: Python, folder: Path) -> None:
        self._python, self._folder = python, folder

    def __call__(self, template: Template) -> list[str]:
        file = self._folder / "template.json"
        file.write_text(json.dumps(template))
        command = ["-c", "from cfnlint.runner import main; main()", "--regions", "eu-central-1", "us-east-1"]
        linted = tool(
            self._python, [*command, "--include-checks", "I", "--format", "parseable", "--", str(file)]
        )
        return linted.stdout.splitlines() + linted.stderr.splitlines()


def tool(python: Python, arguments: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python with the AWS tools and nothing else."""
    environ = {"PATH": os.defpath, "PYTHONPATH": str(python.tools()), "AWS_DEFAULT_REGION": "eu-central-1"}
    command = [str(python.executable), "-S", *arguments]
    return subprocess.run(command, input=given, env=environ, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def forms(aws_python: Python) -> dict[str, Template]:
    """The template as it is written (`sam`) and as AWS expands it (`transformed`)."""
    script = Path(__file__).with_name("sam_transform.py")
    expanded = tool(aws_python, [str(script)], TEMPLATE.read_text())
    assert expanded.returncode == 0, expanded.stderr
    found: dict[str, Template] = json.loads(expanded.stdout)
    return found


@pytest.fixture
def sam(forms: dict[str, Template]) -> Template:
    return forms["sam"]


@pytest.fixture
def transformed(forms: dict[str, Template]) -> Template:
    return forms["transformed"]


@pytest.fixture
def lint(aws_python: Python, tmp_path: Path) -> Lint:
    return Lint(aws_python, tmp_path)


def of_type(template: Template, kind: str) -> dict[str, Template]:
    """The properties of each resource of this type, by its name."""
    resources = template["Resources"].items()
    return {name: made.get("Properties", {}) for name, made in resources if made["Type"] == kind}


def strings(node: Any) -> Iterator[str]:
    """Every text in a template, names and values."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from (name, *strings(value))
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)


def statements(template: Template) -> Iterator[Template]:
    """Every statement of every policy that says what a role may do."""
    for role in of_type(template, "AWS::IAM::Role").values():
        for policy in role["Policies"]:
            given = policy["Fn::If"][1] if "Fn::If" in policy else policy
            yield from given["PolicyDocument"]["Statement"]


def environment_of(template: Template) -> dict[str, Any]:
    variables: dict[str, Any] = function_of(template)["Environment"]["Variables"]
    return variables


def function_of(template: Template) -> Template:
    (function,) = of_type(template, "AWS::Serverless::Function").values()
    return function


def test_aws_accepts_it(lint: Lint, transformed: Template) -> None:
    assert lint(transformed) == []


@pytest.mark.parametrize(("name", "value"), [("Timeout", 901), ("Runtime", "python3.7"), ("Timeuot", 60)])
def test_the_lint_would_find_a_mistake(lint: Lint, transformed: Template, name: str, value: object) -> None:
    wrong = copy.deepcopy(transformed)
    wrong["Resources"]["Function"]["Properties"][name] = value
    assert lint(wrong)


def test_it_needs_no_yaml_that_cloudformation_lacks() -> None:
    assert re.findall(r"(?:^|[\s\[{])[&*][a-z]\w*", TEMPLATE.read_text()) == []  # anchors and aliases


def test_no_role_may_do_anything_to_everything(transformed: Template) -> None:
    found = list(statements(transformed))
    assert len(found) == 6
    for statement in found:
        actions = [*strings(statement["Action"])]
        assert [action for action in actions if "*" in action or ":" not in action] == []
        assert [text for text in strings(statement["Resource"]) if text.endswith("*")] == []
    for role in of_type(transformed, "AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role


def test_the_function_reads_exactly_the_secrets(sam: Template) -> None:
    (reading,) = [found for found in statements(sam) if found["Action"] == "ssm:GetParameters"]
    separator, sub = reading["Resource"]["Fn::Split"]
    names = [arn.removeprefix("${P}/") for arn in sub["Fn::Sub"][0].split(separator)]
    assert names == list(SECRETS)


def test_every_secret_of_the_settings_is_one_of_them() -> None:
    secret = {
        str(name).upper()
        for field, info in Settings.model_fields.items()
        if SecretStr.__name__ in str(info.annotation)
        for name in getattr(info.validation_alias, "choices", [field])
    }
    assert "SUPABASE_SERVICE_ROLE_KEY" in secret
    assert secret == set(SECRETS)


def test_no_secret_is_in_it(sam: Template) -> None:
    assert not set(environment_of(sam)) & set(SECRETS)
    assert "{{resolve:" not in TEMPLATE.read_text()
    asked = [name for name in sam["Parameters"] if re.search(r"Secret(?!s)|Password|Token|[^s]Key$", name)]
    assert asked == []


def test_every_variable_it_sets_is_one(sam: Template) -> None:
    known = {field.upper() for field in Settings.model_fields}
    assert set(environment_of(sam)) - known == {PATH}


def test_a_run_has_ten_seconds_more_than_its_budget(sam: Template) -> None:
    budget = int(environment_of(sam)["CLEANUP_TIME_BUDGET_SECONDS"])
    assert function_of(sam)["Timeout"] >= budget + 10


def test_the_bundle_is_the_one_that_package_aws_builds(sam: Template) -> None:
    function, parameters = function_of(sam), sam["Parameters"]
    assert (TEMPLATE.parent / function["CodeUri"]).resolve() == OUTPUT
    assert function["Handler"] == "infra.aws.lambda_entry.handler"
    assert set(parameters["Architecture"]["AllowedValues"]) == set(MACHINES)
    assert (parameters["Architecture"]["Default"], parameters["Runtime"]["Default"]) == (
        "arm64",
        "python3.13",
    )


def test_the_url_is_public_by_both_permissions(transformed: Template) -> None:
    granted = {found["Action"]: found for found in of_type(transformed, "AWS::Lambda::Permission").values()}
    assert set(granted) == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert granted["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "NONE"
    assert granted["lambda:InvokeFunction"]["InvokedViaFunctionUrl"] is True


def test_the_interval_is_the_same_for_schedule_lull_and_alarm(sam: Template) -> None:
    intervals = sam["Mappings"]["Interval"]
    assert set(intervals) == set(sam["Parameters"]["CleanupInterval"]["AllowedValues"])
    for name, row in intervals.items():
        seconds = seconds_of(row["Expression"])
        assert (60 * int(row["Minutes"]), row["Seconds"]) == (seconds, seconds), name
    (schedule,) = of_type(sam, "AWS::Scheduler::Schedule").values()
    missing = of_type(sam, "AWS::CloudWatch::Alarm")["RunsMissing"]
    chosen = {"Fn::FindInMap": ["Interval", {"Ref": "CleanupInterval"}, "Expression"]}
    assert schedule["ScheduleExpression"] == chosen
    assert missing["Period"]["Fn::FindInMap"][2] == "Seconds"
    assert environment_of(sam)["CLEANUP_INTERVAL_MINUTES"]["Fn::FindInMap"][2] == "Minutes"


def test_the_schedule_sends_what_starts_a_run_and_gives_up_into_the_queue(sam: Template) -> None:
    (schedule,) = of_type(sam, "AWS::Scheduler::Schedule").values()
    target, queue = schedule["Target"], {"Fn::GetAtt": ["FailedRuns", "Arn"]}
    assert json.loads(target["Input"]) == {"task": "cleanup"}
    assert target["DeadLetterConfig"] == {"Arn": queue}
    assert target["RetryPolicy"]["MaximumRetryAttempts"] > 0
    # Scheduler invokes asynchronously: a run that fails is in Lambda's hands, not in its.
    assert function_of(sam)["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"] == queue
    (dead_letters,) = of_type(sam, "AWS::SQS::Queue").values()
    assert dead_letters["SqsManagedSseEnabled"] is True
    assert dead_letters["MessageRetentionPeriod"] == 14 * 86_400


def test_failed_and_missing_runs_raise_an_alarm(sam: Template) -> None:
    alarms = of_type(sam, "AWS::CloudWatch::Alarm")
    assert {name: (alarm["Namespace"], alarm["MetricName"]) for name, alarm in alarms.items()} == {
        "RunsFailed": ("AWS/Lambda", "Errors"),
        "RunsGivenUp": ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        "RunsMissing": ({"Fn::Sub": "Lull/${AWS::StackName}"}, "ScheduledRuns"),
    }
    missing = alarms["RunsMissing"]
    assert (missing["TreatMissingData"], missing["EvaluationPeriods"]) == ("breaching", 2)
    for row in sam["Mappings"]["Interval"].values():  # CloudWatch's own limits
        assert 2 * row["Seconds"] <= (86_400 if row["Seconds"] < 3600 else 604_800)
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == alarm["OKActions"]


def test_logs_are_json_and_kept_for_a_time(sam: Template) -> None:
    (logs,) = of_type(sam, "AWS::Logs::LogGroup").values()
    assert logs["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert function_of(sam)["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": {"Ref": "Logs"}}


def test_its_outputs_and_tags_say_what_is_what(sam: Template) -> None:
    assert set(sam["Outputs"]) == {"Url", "FunctionName", "LogGroup", "FailedRunsQueue"}
    taggable = ["AWS::IAM::Role", "AWS::SQS::Queue", "AWS::Logs::LogGroup", "AWS::CloudWatch::Alarm"]
    for kind in [*taggable, "AWS::Serverless::Function", "AWS::Scheduler::ScheduleGroup"]:
        for name, made in of_type(sam, kind).items():
            assert "lull" in strings(made["Tags"]), name


@pytest.mark.parametrize(
    "expression",
    [
        *("rate(1 minute)", "rate(2 minutes)", "rate(1 hour)", "rate(15 minutes)", "rate(30 days)"),
        *(
            "cron(0 2 * * ? *)",
            "cron(0/15 * ? * MON-FRI *)",
            "cron(5,35 14 * * ? *)",
            "cron(15 10 L * ? 2027)",
        ),
        *("cron(0 0 ? * 6L 2026-2028)", "cron(0 9 15W JAN,JUL ? *)", "cron(0 9 ? * TUE#2 *)"),
    ],
)
def test_a_good_schedule_expression_is_taken(expression: str) -> None:
    check(expression)


@pytest.mark.parametrize(
    "expression",
    [
        *("rate(1 minutes)", "rate(2 minute)", "rate(0 minutes)", "rate(01 minute)", "rate(-5 minutes)"),
        *(
            "rate(1.5 hours)",
            "rate(15minutes)",
            "rate(15 seconds)",
            "rate(15 minutes) ",
            "rate 15 minutes",
            "",
        ),
        *("cron(0 2 * * *)", "0 2 * * *", "cron(0 2 * * * *)", "cron(0 2 ? * ? *)", "cron(60 2 * * ? *)"),
        *(
            "cron(0 24 * * ? *)",
            "cron(0 2 0 * ? *)",
            "cron(0 2 * 13 ? *)",
            "cron(0 2 ? * 0 *)",
            "cron(0  2 * * ? *)",
        ),
        *("cron(5-1 2 * * ? *)", "cron(0/0 2 * * ? *)", "cron(? 2 * * ? *)", "cron(0 2 * JANUARY ? *)"),
        "at(2026-12-01T02:00:00)",
    ],
)
def test_a_bad_schedule_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(expression))):
        check(expression)
