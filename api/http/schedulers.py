"""Which requests are a platform's scheduler's: those execute where another GET only shows."""

from starlette.requests import Request


def is_scheduler(request: Request) -> bool:
    """Whether Vercel's cron sent this request."""
    headers = request.headers
    return headers.get("user-agent", "").startswith("vercel-cron/") or "x-vercel-cron-schedule" in headers
