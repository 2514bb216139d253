"""Write _lull.min.js and lull.d.ts from lull.js: `python -m tests.browser.build`, after each change of it."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.browser.node_tools import MINIFIED, TYPES, declared, minified

if __name__ == "__main__":
    MINIFIED.write_text(minified())
    with TemporaryDirectory() as folder:
        TYPES.write_text(declared(Path(folder)))
