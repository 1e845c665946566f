"""Refunds and disputes of charges."""

from typing import Literal

from app.demo.stripe.cards import FAILING_REFUND, PENDING_REFUND
from app.demo.stripe.objects import Object, invalid
from app.demo.stripe.store import Store

CLOSED_DISPUTE = ("won", "lost", "warning_closed", "prevented")
OPEN_REFUND = ("pending", "requires_action")
RefundOutcome = Literal["succeeded", "failed", "canceled"]
CaseType = Literal["resolution", "block"]
"""The reason why a dispute was prevented: Stripe refunded the cardholder, or the issuer dropped the case."""


def _last4(charge: Object) -> str | None:
    last4: str | None = charge["payment_method_details"].get("card", {}).get("last4")
    return last4


class Disputes(Store):
    """An account's refunds and disputes."""

    def charge_of(self, payment_intent_id: str) -> Object:
        charge_id = self.find("payment_intent", payment_intent_id)["latest_charge"]
        if charge_id is None or not self.find("charge", charge_id)["paid"]:
            raise invalid("This PaymentIntent does not have a successful charge.", "payment_intent")
        return self.find("charge", charge_id)

    def refund(
        self,
        charge: Object,
        amount: int | None,
        reason: str | None,
        status: str | None = None,
        metadata: Object | None = None,
    ) -> Object:
        """Start a refund. `status` None: by the test card, pending for one of them, else succeeded."""
        disputes = [d for d in self.objects["dispute"].values() if d["charge"] == charge["id"]]
        if any(dispute["status"] in ("needs_response", "under_review", "lost") for dispute in disputes):
            raise invalid(f"Charge {charge['id']} has been charged back.", "charge", "charge_disputed")
        left = charge["amount_captured"] - charge["amount_refunded"]
        amount = left if amount is None else amount
        if left == 0:
            raise invalid(f"Charge {charge['id']} has already been refunded.", "charge", "charge_already_refunded")
        if not 1 <= amount <= left:
            raise invalid(f"Refund amount is greater than unrefunded amount on charge ({left})", "amount")
        last4 = _last4(charge)
        refund = self.add(
            "refund",
            "re",
            amount=amount,
            currency=charge["currency"],
            charge=charge["id"],
            payment_intent=charge["payment_intent"],
            status=status or ("pending" if last4 == PENDING_REFUND[-4:] else "succeeded"),
            failure_reason=None,
            reason=reason,
            metadata=metadata or {},
        )
        self._move_refunded(charge, amount)
        self.emit("refund.created", refund)
        self.emit("charge.refunded", charge)
        return refund

    def later_outcome(self, refund: Object) -> RefundOutcome | None:
        """Return the outcome that the test card gives a refund after a while. None: no further change."""
        last4 = _last4(self.find("charge", refund["charge"]))
        if last4 == PENDING_REFUND[-4:] and refund["status"] == "pending":
            return "succeeded"
        return "failed" if last4 == FAILING_REFUND[-4:] and refund["status"] == "succeeded" else None

    def settle_refund(self, refund: Object, outcome: RefundOutcome) -> Object:
        """End a refund. One that succeeded can still fail later, when the bank returns the money.

        Money that did not reach the buyer belongs to the merchant again, so the charge counts as less refunded.
        """
        allowed = OPEN_REFUND + (("succeeded",) if outcome == "failed" else ())
        if refund["status"] not in allowed:
            raise invalid(f"This refund has a status of {refund['status']}.", "refund", "refund_unexpected_state")
        reasons = {"succeeded": None, "failed": "expired_or_canceled_card", "canceled": "merchant_request"}
        refund |= {"status": outcome, "failure_reason": reasons[outcome]}
        if outcome != "succeeded":
            self._move_refunded(self.find("charge", refund["charge"]), -refund["amount"])
        if outcome == "failed":
            self.emit("refund.failed", refund)
        self.emit("refund.updated", refund)
        self.emit("charge.refund.updated", refund)
        return refund

    def cancel_refund(self, refund: Object) -> Object:
        if refund["status"] != "requires_action":
            raise invalid("Only refunds with a status of requires_action can be canceled.", "refund")
        return self.settle_refund(refund, "canceled")

    def _move_refunded(self, charge: Object, amount: int) -> None:
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]

    def open_dispute(
        self, intent: Object, *, amount: int | None = None, inquiry: bool = False, prevented: CaseType | None = None
    ) -> Object:
        """Open a dispute. `prevented`: Stripe settles the case before it becomes a chargeback."""
        charge = self.charge_of(intent["id"])
        status = "prevented" if prevented else "warning_needs_response" if inquiry else "needs_response"
        dispute = self.add(
            "dispute",
            "du",
            amount=charge["amount"] if amount is None else amount,
            balance_transactions=[],
            currency=charge["currency"],
            charge=charge["id"],
            payment_intent=intent["id"],
            payment_method_details={"type": "card", "card": {"case_type": prevented or "chargeback"}},
            status=status,
            reason="fraudulent",
            metadata={},
        )
        charge["disputed"] = True
        self.emit("charge.dispute.created", dispute)
        if not inquiry and prevented != "block":
            self._move_disputed(dispute, withdrawn=True)
        return dispute

    def close_dispute(self, dispute: Object, outcome: Literal["won", "lost"]) -> Object:
        """Close a dispute. An inquiry, for which no money was withdrawn, closes without an outcome."""
        if dispute["status"] in CLOSED_DISPUTE:
            raise invalid("This dispute is closed already.", "dispute")
        inquiry = dispute["status"].startswith("warning_")
        dispute["status"] = "warning_closed" if inquiry else outcome
        self.emit("charge.dispute.closed", dispute)
        if outcome == "won" and not inquiry:
            self._move_disputed(dispute, withdrawn=False)
        return dispute

    def redecide_dispute(self, dispute: Object) -> Object:
        """Reverse the issuer's decision, as after an appeal: lost becomes won, and won becomes lost."""
        if dispute["status"] not in ("won", "lost"):
            raise invalid("This dispute has not been decided.", "dispute")
        dispute["status"] = "lost" if dispute["status"] == "won" else "won"
        self.emit("charge.dispute.closed", dispute)
        self._move_disputed(dispute, withdrawn=dispute["status"] == "lost")
        return dispute

    def _move_disputed(self, dispute: Object, *, withdrawn: bool) -> None:
        amount = -dispute["amount"] if withdrawn else dispute["amount"]
        moved = {"object": "balance_transaction", "amount": amount, "currency": dispute["currency"]}
        dispute["balance_transactions"] = [*dispute.get("balance_transactions", []), moved]
        self.emit(f"charge.dispute.funds_{'withdrawn' if withdrawn else 'reinstated'}", dispute)
