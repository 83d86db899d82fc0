"""Settings, read once from the environment when a process starts.

A missing or malformed setting stops the program and names it. `.env.example` lists every setting with a sentence;
a test keeps the two the same.
"""

import re
import sys
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from common import mail_addresses, mail_server

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_STRIPE_KEY = re.compile(r"[sr]k_(test|live)_[!-~]+")


class Settings(BaseSettings):
    """Every setting of Batchyard; the environment variable is the field's name in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: str
    web_database_url: str
    redis_url: str
    storage_url: str
    upload_folder: str | None = None
    secret_key: SecretStr = Field(min_length=32)

    provider_url: str = "https://api.openai.com/v1"
    provider_api_key: SecretStr
    models_file: str | None = None
    prices_file: str | None = None
    plans_file: str | None = None
    call_timeout_seconds: float = Field(default=600, gt=0)
    call_attempts: int = Field(default=6, ge=1)
    outage_seconds: float = Field(default=120, ge=0)
    worker_concurrency: int = Field(default=256, ge=1, le=4096)

    webhook_allowed_hosts: str | None = None
    webhook_ports: str = "443,8443"
    delivery_concurrency: int = Field(default=256, ge=1, le=4096)

    batchyard_env: Literal["development", "production"] = "development"
    stripe_api_base: str | None = None
    stripe_secret_key: SecretStr | None = None
    stripe_webhook_secret: SecretStr | None = None
    payment_grace_days: int = Field(default=7, ge=0, le=90)
    meter_delay_seconds: int = Field(default=120, ge=0, le=1_800)
    meter_events_per_second: float = Field(default=20, gt=0, le=1_000)
    operator_email: str | None = None

    mail_from: str | None = None
    smtp_url: str | None = None

    oidc_audience: str | None = None
    oidc_issuer: str | None = None
    oidc_jwks_url: str | None = None
    oidc_shared_secret: SecretStr | None = Field(default=None, min_length=32)

    public_url: str = "http://127.0.0.1:8000"
    web_host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    web_processes: int = Field(default=2, ge=1)
    web_requests_at_once: int = Field(default=32, ge=2)
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    max_upload_bytes: int = Field(default=2 * 2**30, ge=1024)
    stall_seconds: float = Field(default=60, gt=0)
    address_requests_per_minute: int = Field(default=300_000, ge=1)
    address_failures_per_minute: int = Field(default=600, ge=1)
    trusted_proxies: int = Field(default=0, ge=0, le=10)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("database_url", "web_database_url")
    @classmethod
    def _is_postgres(cls, value: str) -> str:
        return _with_scheme(value, "postgresql://", "postgres://")

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        return _with_scheme(value, "redis://", "rediss://", "unix://")

    @field_validator("storage_url")
    @classmethod
    def _is_storage(cls, value: str) -> str:
        return _with_scheme(value, "file:///", "s3://")

    @field_validator("webhook_allowed_hosts")
    @classmethod
    def _is_hosts(cls, value: str | None) -> str | None:
        read = [_HOST.fullmatch(host.strip()) for host in value.split(",")] if value is not None else []
        if not all(host is not None and int(host[2] or 1) < 65_536 for host in read):
            raise ValueError("must be hosts, or hosts with ports such as localhost:9000, between commas")
        return value

    @field_validator("webhook_ports")
    @classmethod
    def _is_ports(cls, value: str) -> str:
        if not all(port.strip().isdecimal() and 0 < int(port) < 65_536 for port in value.split(",")):
            raise ValueError("must be port numbers between commas")
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_sender(cls, value: str | None) -> str | None:
        if value is not None:
            mail_server.read_sender(value)
        return value

    @field_validator("operator_email")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not mail_addresses.is_address(value):
            raise ValueError("must be an address such as operator@example.com")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_mail_server(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None:
            mail_server.read_url(value)
            # A MAIL_FROM that is malformed is not there, and has been named.
            if "mail_from" in others.data and others.data["mail_from"] is None:
                raise ValueError("is set without MAIL_FROM, the sender of all mails")
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _is_issuer(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None:
            _with_scheme(value, "https://", "http://")
            if others.data.get("oidc_audience") is None:
                raise ValueError("is set without OIDC_AUDIENCE: tokens for other programs would be taken")
        return value

    @field_validator("oidc_jwks_url")
    @classmethod
    def _is_key_set(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None:
            _with_scheme(value, "https://", "http://")
            _require_issuer(others)
        return value

    @field_validator("oidc_shared_secret")
    @classmethod
    def _is_alone(cls, value: SecretStr | None, others: ValidationInfo) -> SecretStr | None:
        if value is not None:
            _require_issuer(others)
            if others.data.get("oidc_jwks_url") is not None:
                raise ValueError("is set beside OIDC_JWKS_URL: tokens are checked with one of the two")
        return value

    @field_validator("provider_url", "public_url", "stripe_api_base")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        return _with_scheme(value, "http://", "https://").rstrip("/") if value is not None else None

    @field_validator("stripe_secret_key")
    @classmethod
    def _is_of_its_environment(cls, value: SecretStr | None, read: ValidationInfo) -> SecretStr | None:
        if value is None:
            return None
        found = _STRIPE_KEY.fullmatch(value.get_secret_value())
        if found is None:
            raise ValueError("must begin with sk_test_, sk_live_, rk_test_ or rk_live_")
        # What these two are is known only where they hold themselves.
        environment = read.data.get("batchyard_env")
        if (found[1] == "live") != (environment == "production") and environment is not None:
            raise ValueError(
                f"is a {found[1]} key, and BATCHYARD_ENV is {environment}: money is real in both or in neither"
            )
        if found[1] == "live" and read.data.get("stripe_api_base") is not None:
            raise ValueError("is a live key, which goes to Stripe alone: leave STRIPE_API_BASE out")
        return value

    @field_validator("stripe_webhook_secret")
    @classmethod
    def _is_webhook_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith("whsec_"):
            raise ValueError("must begin with whsec_")
        return value


def _require_issuer(others: ValidationInfo) -> None:
    # An issuer that is malformed is not there, and has been named.
    if "oidc_issuer" in others.data and others.data["oidc_issuer"] is None:
        raise ValueError("is set without OIDC_ISSUER")


def _with_scheme(value: str, *schemes: str) -> str:
    if not value.startswith(schemes):
        raise ValueError(f"must start with {' or '.join(schemes)}")
    try:
        _ = urlsplit(value).port
    except ValueError:
        # What urlsplit says would show a piece of the URL, and that may be a piece of its password.
        raise ValueError("must be a URL; its host or port cannot be read") from None
    return value


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process. Exits with status 2, naming each bad setting, when they do not hold."""
    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"]).upper()
            reason = "is not set" if problem["type"] == "missing" else problem["msg"]
            print(f"setting {name}: {reason} (see .env.example)", file=sys.stderr)
        sys.exit(2)
