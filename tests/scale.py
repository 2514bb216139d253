"""How many examples the generated tests try: few in `make test`, ten times as many in `make release-check`."""

import os

SCALE = int(os.environ.get("TEST_SCALE", "1"))


def examples(count: int) -> int:
    """So many examples, times TEST_SCALE."""
    return count * SCALE
