"""The Supabase project that the doors lead to: its address, and the key that opens it."""

import re
from dataclasses import dataclass, field

from api.errors import not_configured
from api.settings import Settings


@dataclass(frozen=True)
class Project:
    """Where a project is, without a slash at the end, and its secret key."""

    url: str
    key: str = field(repr=False)


def project_of(settings: Settings) -> Project:
    """The project that the settings name; 503 that says which variable is missing or no key."""
    if settings.supabase_url is None:
        raise not_configured("SUPABASE_URL is not set.")
    if settings.supabase_secret_key is None:
        raise not_configured("SUPABASE_SECRET_KEY is not set.")
    key = settings.supabase_secret_key.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise not_configured(
            "SUPABASE_SECRET_KEY is no key: a key is ASCII letters, digits and signs, no spaces."
        )
    return Project(settings.supabase_url.rstrip("/"), key)
