"""Django's own `clearsessions`, on Django's own table; with `prepare`, Django makes that table."""

import os
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from tests.bench.contenders.conversation import take_part


def main() -> None:
    url = urlsplit(os.environ["DATABASE_URL"])
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.lstrip("/"),
        "USER": url.username,
        "PASSWORD": url.password,
        "HOST": url.hostname,
        "PORT": url.port,
    }
    settings.configure(DATABASES={"default": database}, INSTALLED_APPS=["django.contrib.sessions"], USE_TZ=True)
    django.setup()
    if sys.argv[1:] == ["prepare"]:
        call_command("migrate", verbosity=0)
        return
    connection.ensure_connection()
    take_part(lambda: call_command("clearsessions"))


main()
