"""The tools that stand in for AWS, for the Python that the bundle is built for."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.aws.interpreters import find_interpreter
from infra.local.environment import ROOT

TOOLS = Path(__file__).with_name("aws-tools.txt")
TEMPLATE = ROOT / "infra/aws/template.yaml"
ARCHITECTURE = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")


@dataclass(frozen=True)
class Python:
    """An interpreter that the bundle can run on here, and folders of packages for it."""

    version: str
    executable: Path

    def packages(self, name: str, requirements: Sequence[str]) -> Path:
        """Return a folder with these packages, beside the tests' own; a second call downloads nothing."""
        folder = Path(sys.prefix) / f"{name}-{self.version}"
        stamp, wanted = folder / "installed", "\n".join(requirements)
        if not stamp.exists() or stamp.read_text() != wanted:
            pip = [
                str(self.executable),
                "-m",
                "pip",
                "install",
                "-q",
                "--no-input",
                "--disable-pip-version-check",
            ]
            subprocess.run([*pip, "--upgrade", f"--target={folder}", *requirements], check=True, timeout=280)
            stamp.write_text(wanted)
        return folder

    def tools(self) -> Path:
        """The folder with cfn-lint, the SAM translator and ministack."""
        return self.packages("aws-tools", pins(TOOLS))

    def runtime_client(self) -> Path:
        """The folder with awslambdaric, the client that AWS has in its Lambda runtimes, and nothing else."""
        all_pins = pins(ROOT / "tests/requirements.txt")
        return self.packages("awslambdaric", [pin for pin in all_pins if pin.startswith("awslambdaric")])


def pins(file: Path) -> list[str]:
    """The pinned packages of a requirements file."""
    return re.findall(r"^[\w\[\].-]+==\S+", file.read_text(), re.MULTILINE)


def python_of_the_bundle() -> Python:
    """The version of the template's default Runtime where this machine has it; else that of the tests."""
    wanted = re.search(r"Default: python(3\.\d+)", TEMPLATE.read_text())
    assert wanted is not None
    found = find_interpreter(wanted[1], os.environ, with_pip=True)
    if found:
        return Python(wanted[1], found)
    return Python("{}.{}".format(*sys.version_info), Path(sys.executable))
