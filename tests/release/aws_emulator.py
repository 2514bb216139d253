"""ministack, a local AWS, and the clients of it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from infra.local import ports
from infra.local.environment import for_children
from infra.local.processes import Child
from tests.release.aws_tools import Python

REGION = "eu-central-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}


class Aws:
    """Clients of the emulator, and Lull's stack in it."""

    def __init__(self, address: str, pid: int) -> None:
        self.address, self.pid = address, pid
        self._session = boto3.Session(**KEYS)
        self.outputs: dict[str, str] = {}
        self.resources: dict[str, str] = {}

    def client(self, service: str) -> Any:
        limits = Config(read_timeout=90, retries={"total_max_attempts": 1})
        return self._session.client(service, endpoint_url=self.address, config=limits)

    def create_stack(self, template: str, parameters: dict[str, str]) -> None:
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName="lull",
            TemplateBody=template,
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName="lull", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        (stack,) = cloudformation.describe_stacks(StackName="lull")["Stacks"]
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        made = cloudformation.describe_stack_resources(StackName="lull")["StackResources"]
        self.resources = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in made}

    def invoke(self, event: object) -> tuple[bool, Any]:
        """Invoke the function and wait; return whether it failed, and what it said."""
        name = self.outputs["FunctionName"]
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        return "FunctionError" in answer, json.loads(answer["Payload"].read())


@contextmanager
def running_emulator(python: Python, folder: Path) -> Iterator[Aws]:
    """Run ministack on the loopback address. It starts functions with the interpreter that it runs on itself."""
    port = ports.find_free()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own = {"BIND_HOST": ports.HOST, "GATEWAY_PORT": str(port), "TMPDIR": str(folder)}
    tools = {"PYTHONPATH": str(python.tools()), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(python.executable), "-S", "-m", "ministack"]
    environ = for_children(kept | own | tools)
    ministack = Child("ministack", command, environ=environ, cwd=folder, log=folder / "ministack.log")
    try:
        ministack.wait_ready(lambda: ports.answers(port), seconds=60)
        yield Aws(f"http://{ports.HOST}:{port}", ministack.pid)
    finally:
        ministack.stop()
