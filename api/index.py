"""Settings → app. The only file with a top-level `app`."""

import os

from api import cold_start

cold_start.begin()  # before FastAPI is imported

from api.composition import create_app
from api.settings import Settings

app = create_app(Settings.from_environ(os.environ))
cold_start.end()
