"""The table of features: name, exact paths, module of its routes. Imported on the first request that matches."""

from api.http.feature_app import Feature

ADMIN, SESSION, INSTANCE = "/api/admin", "/api/sessions/{id}", "/api/instances/{id}"
ITEM = "/api/library/{namespace}/{key}"


def _below(prefix: str, *ends: str) -> tuple[str, ...]:
    return tuple(prefix + end for end in ends)


FEATURES = (
    Feature("cleanup", _below(ADMIN, "/cleanup-sessions"), "api.cleanup.routes"),
    Feature(
        "cleanup.undo",
        (
            *_below(ADMIN, "/archive", "/archive/restore", "/holds", "/pause", "/unpause"),
            *_below(f"{ADMIN}/runs", "", "/{id}", "/{id}/restore"),
        ),
        "api.cleanup.undo.routes",
    ),
    Feature("doctor", _below(ADMIN, "/doctor"), "api.doctor.routes"),
    Feature("events", _below(ADMIN, "/deliver"), "api.events.routes"),
    Feature("feedback", _below(SESSION, "/feedback"), "api.feedback.routes"),
    Feature(
        "games",
        (
            *_below(SESSION, "/commands", "/claim", "/release"),
            *_below(INSTANCE, "/open", "/renew", "/close", "/recover"),
        ),
        "api.games.routes",
    ),
    Feature(
        "insight",
        (
            "/",
            *_below("/api", "/flags", "/health", "/health/cleanup"),
            *_below(ADMIN, "/funnel", "/metrics", "/overview", "/regret", "/stats"),
        ),
        "api.insight.routes",
    ),
    Feature("pages", ("/admin", "/admin/{file}", "/expired", "/lull.css", "/lull.js", "/lull.svg"), "api.pages.routes"),
    Feature(
        "library",
        (
            "/api/library/{namespace}",
            *_below(ITEM, "", "/undelete", "/versions", "/versions/{version}", "/versions/{version}/restore"),
        ),
        "api.library.routes",
    ),
    Feature("library.files", _below(f"{ITEM}/file", "", "/{file}/complete"), "api.library.file_routes"),
    Feature("library.sessions", _below(SESSION, "/items"), "api.library.session_routes"),
    Feature(
        "rooms",
        (
            *_below(SESSION, "/join", "/leave", "/heartbeat", "/touch", "/expiry"),
            *_below(SESSION, "/participants", "/participants/{participant}", "/invites", "/invites/{invite}"),
            *_below(ADMIN, "/rooms", "/sweep"),
        ),
        "api.rooms.routes",
    ),
    Feature(
        "sessions",
        (
            "/api/sessions",
            "/api/sessions/count",
            *_below(SESSION, "", "/events"),
        ),
        "api.sessions.routes",
    ),
    Feature(
        "sessions.files",
        _below(f"{SESSION}/files", "", "/{file}", "/{file}/complete"),
        "api.sessions.files.routes",
    ),
    Feature(
        "sessions.transitions",
        _below(SESSION, "/activate", "/pause", "/resume", "/end", "/claim-ownership"),
        "api.sessions.transition_routes",
    ),
    Feature("user_sessions", ("/api/me/session",), "api.user_sessions.routes"),
)
