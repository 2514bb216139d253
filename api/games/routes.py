"""Games: commands under /api/sessions/{id}, and instances under /api/instances/{id}. For the service only."""

from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel

from api.games.schemas import (
    Applied,
    Claim,
    Closed,
    Command,
    Freed,
    Incarnation,
    InstanceName,
    Open,
    Opened,
    Owned,
    Recovered,
    Recovery,
    Release,
    Renewed,
)
from api.http.bodies import parse_body
from api.http.dependencies import BODY, SERVICE_NO_QUERY
from api.http.openapi import body_of, documented
from api.http.parts import parts_of
from api.http.routers import feature_router
from api.http.schemas import SessionId

SESSION, INSTANCE = "/api/sessions/{id}", "/api/instances/{id}"

router = feature_router(tags=["games"], dependencies=[SERVICE_NO_QUERY])


def _takes(model: type[BaseModel], *errors: int, required: bool = True) -> dict[str, Any]:
    return {
        "responses": documented(400, 401, *errors, 415, 422, 500, 503),
        "openapi_extra": body_of(model, required=required),
    }


@router.post(f"{SESSION}/commands", **_takes(Command, 404, 409, 410, 412))
async def apply_command(request: Request, session: SessionId, body: bytes = BODY) -> Applied:
    """Apply a command to an active game, once: sent again, it is answered and not applied.

    It patches the state, or reports an error and keeps it. A claimed game takes no command without its fence.
    """
    parts = parts_of(request)
    return await parts.call_async(
        Applied,
        "lull_apply_command",
        p_session=str(session),
        p_command=parse_body(body, Command).argument(),
        p_max_state_bytes=parts.settings.max_state_bytes,
    )


@router.post(f"{SESSION}/claim", **_takes(Claim, 404, 409, 410))
async def claim_game(request: Request, session: SessionId, body: bytes = BODY) -> Owned:
    """Make an instance the owner of a game. Every claim makes a new fence: commands with an older one are refused."""
    parts, claim = parts_of(request), parse_body(body, Claim)
    return await parts.call_async(
        Owned,
        "lull_claim_game",
        p_session=str(session),
        p_incarnation=claim.incarnation,
        p_force=claim.force,
        p_restarted=claim.restarted,
        p_restart_limit=parts.settings.restart_limit,
        p_restart_seconds=parts.settings.restart_window_seconds,
    )


@router.post(f"{SESSION}/release", status_code=204, **_takes(Release, 404, 409, 410))
async def release_game(request: Request, session: SessionId, body: bytes = BODY) -> Response:
    """Give a game up: no instance owns it afterwards, and commands need no fence."""
    release = parse_body(body, Release)
    await parts_of(request).call_async(
        Freed,
        "lull_release_session",
        p_session=str(session),
        p_incarnation=release.incarnation,
        p_fence=release.fence,
    )
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


@router.post(f"{INSTANCE}/open", **_takes(Open, required=False))
async def open_instance(request: Request, instance: InstanceName, body: bytes = BODY) -> Opened:
    """Start an instance. The lease that it had before is over, and its games wait to be recovered."""
    parts, asked = parts_of(request), parse_body(body, Open, optional=True)
    return await parts.call_async(
        Opened,
        "lull_open_instance",
        p_instance=instance,
        p_seconds=asked.lease_seconds or parts.settings.instance_lease_seconds,
    )


@router.post(f"{INSTANCE}/renew", **_takes(Incarnation, 409))
async def renew_instance(request: Request, instance: InstanceName, body: bytes = BODY) -> Renewed:
    """Renew the lease of all games of an instance. A lease that ran out is over: 409, open the instance again."""
    parts = parts_of(request)
    return await parts.call_async(
        Renewed,
        "lull_renew_instance",
        p_instance=instance,
        p_incarnation=parse_body(body, Incarnation).incarnation,
        p_recovery_limit=parts.settings.recovery_limit,
    )


@router.post(f"{INSTANCE}/close", status_code=204, **_takes(Incarnation))
async def close_instance(request: Request, instance: InstanceName, body: bytes = BODY) -> Response:
    """End an instance's lease when it stops: its games can be recovered at once. Again is fine."""
    await parts_of(request).call_async(
        Closed,
        "lull_close_instance",
        p_instance=instance,
        p_incarnation=parse_body(body, Incarnation).incarnation,
    )
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


@router.post(f"{INSTANCE}/recover", **_takes(Recovery, 409))
def recover_games(request: Request, instance: InstanceName, body: bytes = BODY) -> Recovered:
    """Take over active games whose instance is gone: each is handed out once. Nothing is deleted.

    Those of the caller's own name come first, then those that have been without an owner for longest. Games that are
    paused, ended or past their timeout are not handed out.
    """
    # not async: an answer of 900 KB is parsed in this thread, and not in the event loop
    parts, recovery = parts_of(request), parse_body(body, Recovery)
    return parts.call(
        Recovered,
        "lull_recover_sessions",
        p_instance=instance,
        p_incarnation=recovery.incarnation,
        p_limit=recovery.limit,
        p_recovery_limit=parts.settings.recovery_limit,
    )
