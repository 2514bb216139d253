"""Build the zip for AWS Lambda: the API, its entry, and wheels for Lambda's platform."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from infra.aws.interpreters import find_interpreter
from infra.local.environment import ROOT

OUTPUT = ROOT / ".local/aws/lull.zip"  # where the template looks for it
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
ENTRY = (
    "infra/__init__.py",
    *(f"infra/aws/{name}.py" for name in ("__init__", "events", "lambda_entry", "parameters")),
)
KEPT_METADATA = {"METADATA", "entry_points.txt"}  # the files that importlib.metadata reads at run time
TASK_ROOT = "/var/task"
ZIPPED_LIMIT, UNZIPPED_LIMIT = 50 * 2**20, 250 * 2**20  # Lambda's limits
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date in a zip


class PackageError(Exception):
    """The bundle could not be built; the message says why."""


def main(argv: list[str], environ: Mapping[str, str]) -> int:
    """Build the bundle and print its sizes and how to deploy it."""
    parser = argparse.ArgumentParser(prog="python -m infra package-aws", description=__doc__)
    add = parser.add_argument
    add("--architecture", choices=MACHINES, default="arm64", help="as in the template (arm64)")
    add("--python", default="3.13", help="the version of the template's Runtime (3.13)")
    add("--output", type=Path, default=OUTPUT, help=f"the zip ({OUTPUT.relative_to(ROOT)})")
    given = parser.parse_args(argv)
    try:
        print(package(given.architecture, given.python, given.output, environ))
    except PackageError as error:
        print(f"lull: {error}", file=sys.stderr)
        return 1
    return 0


def package(architecture: str, python: str, output: Path, environ: Mapping[str, str]) -> str:
    """Write the bundle to `output` and describe it.

    The same sources and wheels give the same bytes. Bytecode is compiled in when this machine has the
    interpreter for it. Raises PackageError.
    """
    interpreter = find_interpreter(python, environ)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "bundle"
        _install(tree, architecture, python, environ)
        _prune(tree)
        _copy_sources(tree)
        if interpreter:
            compile_sources(tree, interpreter, environ)
        unzipped = sum(file.stat().st_size for file in tree.rglob("*") if file.is_file())
        output.parent.mkdir(parents=True, exist_ok=True)
        write_zip(tree, output)
    zipped = output.stat().st_size
    if zipped > ZIPPED_LIMIT or unzipped > UNZIPPED_LIMIT:
        raise PackageError(f"{zipped:,} bytes zipped, {unzipped:,} unzipped: more than Lambda takes")
    shown = output.relative_to(ROOT) if output.is_relative_to(ROOT) else output
    bytecode = "bytecode compiled in" if interpreter else f"no bytecode: there is no Python {python} here"
    return (
        f"{shown}: {architecture}, Python {python}, {bytecode}\n"
        f"  zipped    {zipped / 2**20:6.1f} MiB of {ZIPPED_LIMIT / 2**20:.0f}\n"
        f"  unzipped  {unzipped / 2**20:6.1f} MiB of {UNZIPPED_LIMIT / 2**20:.0f}\n"
        "  deploy    sam deploy --guided --template-file infra/aws/template.yaml "
        f"--parameter-overrides Architecture={architecture} Runtime=python{python}"
    )


def _install(tree: Path, architecture: str, python: str, environ: Mapping[str, str]) -> None:
    """Unpack the wheels of requirements.txt for Lambda's Linux; nothing is built from source."""
    machine = MACHINES[architecture]
    # A wheel for an old glibc runs on a newer one; 2.28 is older than that of every runtime on offer.
    glibc = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
    platforms = [f"--platform={name}_{machine}" for name in glibc]
    # Asked by an interpreter of that version, pip judges markers such as `python_version` as Lambda would.
    interpreter = find_interpreter(python, environ, with_pip=True) or sys.executable
    pip = [str(interpreter), "-m", "pip", "install", "-q"]
    wheels = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    quiet = ["--no-input", "--disable-pip-version-check", "--no-compile"]
    command = [*pip, *quiet, *wheels, f"--target={tree}", f"--requirement={ROOT / 'requirements.txt'}"]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        raise PackageError(f"pip could not get the wheels:\n{installed.stderr}")


def _prune(tree: Path) -> None:
    """Remove files that only developers need: commands, stubs, C sources, packages' tests, pip's metadata."""
    shutil.rmtree(tree / "bin", ignore_errors=True)
    for metadata in tree.glob("*.dist-info"):
        for entry in metadata.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name not in KEPT_METADATA:
                entry.unlink()
    for tests in [*tree.glob("*/tests"), *tree.glob("tests")]:
        shutil.rmtree(tests)
    for file in [*tree.rglob("*.pyi"), *tree.rglob("*.c"), *tree.rglob("*.h"), *tree.rglob("*.pyx")]:
        file.unlink()


def _copy_sources(tree: Path) -> None:
    shutil.copytree(ROOT / "api", tree / "api", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ENTRY:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)


def compile_sources(tree: Path, interpreter: Path, environ: Mapping[str, str]) -> None:
    """Compile to bytecode with Lambda's paths that is valid whatever the files' time stamps are."""
    compileall = [str(interpreter), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command = [*compileall, "-s", str(tree), "-p", TASK_ROOT, str(tree)]
    fixed = {**environ, "PYTHONHASHSEED": "0"}  # the order of sets in bytecode
    compiled = subprocess.run(command, capture_output=True, text=True, env=fixed)
    if compiled.returncode:
        raise PackageError(f"the sources could not be compiled:\n{compiled.stdout}{compiled.stderr}")


def write_zip(tree: Path, output: Path) -> None:
    """Write the zip sorted by name, with one date and one mode, so that equal trees give equal zips."""
    files = sorted((file.relative_to(tree).as_posix(), file) for file in tree.rglob("*") if file.is_file())
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bundle:
        for name, file in files:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100755 << 16 if name.endswith(".so") else 0o100644 << 16
            bundle.writestr(entry, file.read_bytes(), compresslevel=9)
