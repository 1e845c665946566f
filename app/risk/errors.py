"""Why a decision about an alert is refused."""

from app.errors import AppError


class AlertNotFound(AppError):
    status, code = 404, "alert_not_found"

    def __init__(self) -> None:
        super().__init__("Alert not found")


class AlertNamesNoAccount(AppError):
    """An alert about an API key: its accounts are many people's."""

    status, code = 409, "alert_names_no_account"

    def __init__(self) -> None:
        super().__init__("This alert is about an API key: decide about the key")
