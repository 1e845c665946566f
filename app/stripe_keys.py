"""Stripe's keys of one environment, as settings and admins enter them."""

from pydantic import BaseModel, Field, SecretStr, field_validator

from app.setting_values import one_word


class StripeKeys(BaseModel):
    """The keys of one environment's Stripe account. Without them, the environment has no purchases."""

    secret_key: SecretStr
    publishable_key: str = Field(pattern=r"^[\x21-\x7e]*$")
    webhook_secret: SecretStr

    @field_validator("secret_key", "webhook_secret")
    @classmethod
    def _secrets_are_one_word(cls, secret: SecretStr) -> SecretStr:
        return one_word(secret)
