"""The plans until an admin sets others: an example with the plans of Z-Billing."""

from app.plans.document import Plan, PlanGrant, PlanPrice, Plans


def _monthly(dollars: int) -> list[PlanGrant]:
    """Return a monthly grant that never expires: the end of a subscription takes nothing back."""
    return [PlanGrant(unit="money", currency="USD", amount=f"{dollars}.00", cadence="month", expires="never")]


def _price(dollars: int) -> list[PlanPrice]:
    return [PlanPrice(interval="month", currency="USD", amount_minor=dollars * 100)]


SHIPPED = Plans(
    plans=[
        Plan(name="free", title="Free", order=0),
        Plan(
            name="standard",
            title="Standard",
            prices=_price(20),
            grants=_monthly(25),
            purchase_discount_percent="10",
            features=["$25.00 of usage a month", "10 % off purchases"],
            order=1,
        ),
        Plan(
            name="pro",
            title="Pro",
            prices=_price(50),
            grants=_monthly(60),
            purchase_discount_percent="20",
            features=["$60.00 of usage a month", "20 % off purchases"],
            order=2,
        ),
        Plan(name="enterprise", title="Enterprise", by_agreement=True, features=["By agreement"], order=3),
    ]
)
