"""Earlier grants: which one-time grants an imported account got at the neighbour that it was moved from."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from app.db.statements import Tx
from app.neighbours import queries


@dataclass(frozen=True, slots=True)
class EarlierGrants:
    signup: bool = False
    daily_on: date | None = None
    """The last day of a daily grant."""
    referral: bool = False


async def find_earlier_grants(tx: Tx, account_id: UUID) -> EarlierGrants:
    """Return what the imports of an account state. Final under the account's lock, which an import takes."""
    found = await queries.list_details(tx, account_id)
    days = [details["daily_granted_on"] for details in found if details.get("daily_granted_on")]
    return EarlierGrants(
        signup=any(details.get("signup_granted") for details in found),
        daily_on=max((date.fromisoformat(day) for day in days), default=None),
        referral=any(details.get("referral_granted") for details in found),
    )
