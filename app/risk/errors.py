"""Errors of decisions about alerts."""

from app.errors import AppError


class AlertNotFound(AppError):
    status, code = 404, "alert_not_found"

    def __init__(self) -> None:
        super().__init__("Alert not found")


class AlertNamesNoAccount(AppError):
    """The alert is about an API key, whose accounts belong to many people."""

    status, code = 409, "alert_names_no_account"

    def __init__(self) -> None:
        super().__init__("This alert is about an API key: decide about the key")
