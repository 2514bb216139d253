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
    """The function that there is without SnapStart, with what it has from Globals."""
    return {**template["Globals"]["Function"], **of_type(template, "AWS::Serverless::Function")["Function"]}


def in_force(template: Template, **given: object) -> Template:
    """The resources that a stack with these parameters has, with every condition resolved."""
    values = {name: made.get("Default") for name, made in template["Parameters"].items()} | given

    def holds(condition: Any) -> bool:
        ((kind, said),) = condition.items()
        if kind == "Condition":
            return holds(template["Conditions"][said])
        if kind == "Fn::Not":
            return not holds(said[0])
        assert kind == "Fn::Equals"
        left, right = (values[side["Ref"]] if isinstance(side, dict) else side for side in said)
        return bool(left == right)

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "Fn::If" in node:
            condition, yes, no = node["Fn::If"]
            return resolved(yes if holds({"Condition": condition}) else no)
        return {name: resolved(value) for name, value in node.items()}

    return {
        name: {part: resolved(value) for part, value in made.items() if part != "Condition"}
        for name, made in template["Resources"].items()
        if "Condition" not in made or holds({"Condition": made["Condition"]})
    }


# Everything that a deployed address, and what the schedule invokes, hangs on, as in every release so far.
ADDRESS: Template = {
    "FunctionUrl": {
        "Type": "AWS::Lambda::Url",
        "Properties": {"TargetFunctionArn": {"Ref": "Function"}, "AuthType": "NONE"},
    },
    "FunctionUrlPublicPermissions": {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "Action": "lambda:InvokeFunctionUrl",
            "FunctionName": {"Ref": "Function"},
            "Principal": "*",
            "FunctionUrlAuthType": "NONE",
        },
    },
    "FunctionURLInvokeAllowPublicAccess": {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "Action": "lambda:InvokeFunction",
            "FunctionName": {"Ref": "Function"},
            "Principal": "*",
            "InvokedViaFunctionUrl": True,
        },
    },
    "FunctionEventInvokeConfig": {
        "Type": "AWS::Lambda::EventInvokeConfig",
        "Properties": {
            "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["FailedRuns", "Arn"]}}},
            "FunctionName": {"Ref": "Function"},
            "MaximumEventAgeInSeconds": 900,
            "MaximumRetryAttempts": 2,
            "Qualifier": "$LATEST",
        },
    },
}
RESOURCES = {
    *("FailedRuns", "Function", "FunctionRole", "Logs", "RunsFailed", "RunsGivenUp", "RunsMetric", "RunsMissing"),
    *("Schedule", "ScheduleGroup", "ScheduleRole", "SweepSchedule", *ADDRESS),
}


def test_without_snapstart_no_deployed_address_moves(transformed: Template) -> None:
    made = in_force(transformed)
    assert set(made) == RESOURCES
    assert {name: made[name] for name in ADDRESS} == ADDRESS
    function, schedule = made["Function"]["Properties"], made["Schedule"]["Properties"]
    assert "SnapStart" not in function
    assert "FunctionName" not in function
    assert schedule["Target"]["Arn"] == {"Fn::GetAtt": ["Function", "Arn"]}
    assert (schedule["GroupName"], "Name" in schedule) == ({"Ref": "ScheduleGroup"}, False)


def test_with_snapstart_the_address_and_the_schedule_lead_to_the_alias(transformed: Template) -> None:
    made, alias = in_force(transformed, SnapStart="1"), {"Ref": "SnapStartFunctionAliaslive"}
    assert made["SnapStartFunction"]["Properties"]["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert made["SnapStartFunctionUrl"]["Properties"]["TargetFunctionArn"] == alias
    assert made["Schedule"]["Properties"]["Target"]["Arn"] == alias
    (starting, *_) = made["ScheduleRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert starting["Resource"] == alias
    assert not {"Function", *ADDRESS} & set(made)
    for name in ("Environment", "MemorySize", "Timeout", "Role", "LoggingConfig", "ReservedConcurrentExecutions"):
        same = in_force(transformed)["Function"]["Properties"][name]
        assert made["SnapStartFunction"]["Properties"][name] == same


def test_concurrency_is_limited_by_default(transformed: Template) -> None:
    function = in_force(transformed)["Function"]["Properties"]
    assert function["ReservedConcurrentExecutions"] == {"Ref": "MaxConcurrency"}
    assert transformed["Parameters"]["MaxConcurrency"]["Default"] >= 2  # one for a run
    unlimited = in_force(transformed, MaxConcurrency=0)["Function"]["Properties"]
    assert unlimited["ReservedConcurrentExecutions"] == {"Ref": "AWS::NoValue"}


def test_a_key_of_ones_own_decrypts_lulls_parameters_and_nothing_else(sam: Template) -> None:
    (decrypting,) = [found for found in statements(sam) if found["Action"] == "kms:Decrypt"]
    assert decrypting["Condition"]["StringEquals"]["kms:ViaService"]["Fn::Sub"].startswith("ssm.${AWS::Region}.")
    context = decrypting["Condition"]["StringLike"]["kms:EncryptionContext:PARAMETER_ARN"]
    assert context["Fn::Sub"][0].endswith(":parameter${Path}/*")


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://abcdefgh.supabase.co", True),
        ("http://127.0.0.1:54321", True),
        ("http://abcdefgh.supabase.co", False),
        ("http://127.0.0.1.example.com", False),
    ],
)
def test_the_address_of_the_project_is_https_but_on_loopback(sam: Template, url: str, fits: bool) -> None:
    assert bool(re.fullmatch(sam["Parameters"]["SupabaseUrl"]["AllowedPattern"], url)) == fits


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
    for each in of_type(sam, "AWS::Serverless::Function").values():
        assert (TEMPLATE.parent / each["CodeUri"]).resolve() == OUTPUT
    assert function["Handler"] == "infra.aws.lambda_entry.handler"
    assert set(parameters["Architecture"]["AllowedValues"]) == set(MACHINES)
    assert (parameters["Architecture"]["Default"], parameters["Runtime"]["Default"]) == (
        "arm64",
        "python3.13",
    )


def test_the_url_is_public_by_both_permissions(transformed: Template) -> None:
    granted = {
        made["Properties"]["Action"]: made["Properties"]
        for made in in_force(transformed).values()
        if made["Type"] == "AWS::Lambda::Permission"
    }
    assert set(granted) == {"lambda:InvokeFunctionUrl", "lambda:InvokeFunction"}
    assert granted["lambda:InvokeFunctionUrl"]["FunctionUrlAuthType"] == "NONE"
    assert granted["lambda:InvokeFunction"]["InvokedViaFunctionUrl"] is True


def test_the_interval_is_the_same_for_schedule_lull_and_alarm(sam: Template) -> None:
    intervals = sam["Mappings"]["Interval"]
    assert set(intervals) == set(sam["Parameters"]["CleanupInterval"]["AllowedValues"])
    for name, row in intervals.items():
        seconds = seconds_of(row["Expression"])
        assert (60 * int(row["Minutes"]), row["Seconds"]) == (seconds, seconds), name
    schedule = of_type(sam, "AWS::Scheduler::Schedule")["Schedule"]
    missing = of_type(sam, "AWS::CloudWatch::Alarm")["RunsMissing"]
    chosen = {"Fn::FindInMap": ["Interval", {"Ref": "CleanupInterval"}, "Expression"]}
    assert schedule["ScheduleExpression"] == chosen
    assert missing["Period"]["Fn::FindInMap"][2] == "Seconds"
    assert environment_of(sam)["CLEANUP_INTERVAL_MINUTES"]["Fn::FindInMap"][2] == "Minutes"


def test_the_schedule_sends_what_starts_a_run_and_gives_up_into_the_queue(sam: Template) -> None:
    schedule = of_type(sam, "AWS::Scheduler::Schedule")["Schedule"]
    target, queue = schedule["Target"], {"Fn::GetAtt": ["FailedRuns", "Arn"]}
    assert json.loads(target["Input"]) == {"task": "cleanup"}
    assert target["DeadLetterConfig"] == {"Arn": queue}
    assert target["RetryPolicy"]["MaximumRetryAttempts"] > 0
    # Scheduler invokes asynchronously: a run that fails is in Lambda's hands, not in its.
    assert function_of(sam)["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"] == queue
    (dead_letters,) = of_type(sam, "AWS::SQS::Queue").values()
    assert dead_letters["SqsManagedSseEnabled"] is True
    assert dead_letters["MessageRetentionPeriod"] == 14 * 86_400


def test_a_sweep_that_is_missed_is_made_up_by_the_next_and_raises_no_alarm(sam: Template) -> None:
    sweep = of_type(sam, "AWS::Scheduler::Schedule")["SweepSchedule"]
    assert json.loads(sweep["Target"]["Input"]) == {"task": "sweep"}
    assert sweep["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    assert "DeadLetterConfig" not in sweep["Target"]


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
    assert "lull" in strings(sam["Globals"]["Function"]["Tags"])
    for kind in [*taggable, "AWS::Scheduler::ScheduleGroup"]:
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
