"""Default descriptions: clients require a text in every charge, credit and transaction."""

CHARGE = "Agent interaction"


def of_charge(given: str | None) -> str:
    return CHARGE if given is None else given


def of_credit(given: str | None, transaction_type: str, credits: int) -> str:
    """Return `given`, or a text such as "Purchase of 20 credits". The amount beside it carries the sign."""
    if given is not None:
        return given
    unit = "credit" if abs(credits) == 1 else "credits"
    return f"{transaction_type.replace('_', ' ').capitalize()} of {abs(credits)} {unit}"
