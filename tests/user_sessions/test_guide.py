"""The Python blocks of docs/user-sessions.md, one after the other, as a reader pastes them."""

from infra.local.environment import ROOT
from tests.docs.blocks import blocks_of


def test_its_code_runs(redis_url: str) -> None:
    names: dict[str, object] = {"REDIS_URL": redis_url}
    blocks = [block for block in blocks_of(ROOT / "docs" / "user-sessions.md") if block.kind == "python"]
    assert len(blocks) >= 6
    for block in blocks:
        exec(compile(block.text, str(block), "exec"), names)
