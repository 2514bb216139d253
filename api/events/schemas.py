"""The answers of the events' routes."""

from typing import Any

from pydantic import BaseModel, Field

from api.http.schemas import Answer


class DeliveryReport(Answer):
    """The results of the events that were due."""

    delivered: int = 0
    failed: int = Field(default=0, description="Attempts that failed; these events are tried again later.")
    dead: int = Field(default=0, description="Events given up: after 24 hours of trying, or by a 410.")
    pending: int = Field(default=0, description="Events that wait to be delivered, failed ones included.")
    errors: dict[str, int] = Field(default={}, description="Why attempts failed, and how many did.")


class ClaimedEvent(BaseModel):
    """An event to send, as the database has it."""

    id: int
    session_id: str
    kind: str
    event: str
    at: str
    data: dict[str, Any]


class Claim(BaseModel):
    """What `lull_claim_deliveries` answers: the first events of up to 16 sessions."""

    claim: str
    pending: int
    events: list[ClaimedEvent]


class Settled(BaseModel):
    """What `lull_settle_deliveries` answers: what became of the events of a claim."""

    delivered: int
    failed: int
    dead: int
    pending: int
