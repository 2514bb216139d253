"""The environment: the folder of local data, and the variables of child processes."""

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 3000
DEV_ENV = "dev.env"
# What a local stack, the demo and package-aws write into their folder, beside logs.
WRITTEN = {"aws", "cache", "demo", "lock", "postgres", "postgres.new", "postgres.password", "secrets.json"}
WRITTEN |= {"storage", DEV_ENV}
LOOPBACK = "127.0.0.1,localhost"


def home(environ: Mapping[str, str]) -> Path:
    """Return the folder of the local data: LULL_HOME, by default `.local` in the checkout."""
    given = environ.get("LULL_HOME")
    return Path(given).expanduser().resolve() if given else ROOT / ".local"


def is_own_folder(folder: Path) -> bool:
    """Whether a folder holds nothing but what a local stack writes: its rights may be changed then."""
    names = [entry.name for entry in folder.iterdir()]
    return all(name in WRITTEN or name.endswith(".log") or name.startswith(".") for name in names)


def make_private(folder: Path) -> None:
    """Create a folder that only its owner enters; take the rights of other users from one that is Lull's own."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if is_own_folder(folder) and os.geteuid() in (0, folder.stat().st_uid):
        folder.chmod(0o700)


def for_children(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child that talks to servers on this machine.

    PG* variables would change explicit connection settings, DATABASE_URL may name a hosted database, and a
    configured proxy must not get requests to the loopback address.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("PG") and name != "DATABASE_URL"}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(part for part in (environ.get(name), LOOPBACK) if part)
    return kept


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    draft.replace(path)


def write_dev_env(folder: Path, values: Mapping[str, str]) -> Path:
    """Write the settings of a running stack as plain KEY=VALUE lines."""
    path = folder / DEV_ENV
    write_private(path, "".join(f"{name}={value}\n" for name, value in values.items()))
    return path
