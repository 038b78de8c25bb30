"""The part of `check` that looks until when the certificates on this server are valid."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hsm_shipper.commands.findings import Finding, ok, problem, warning
from hsm_shipper.config import Config
from hsm_shipper.redis_settings import TLS_KEYS
from hsm_shipper.stream.certificates import valid_until

_SOON = timedelta(days=30)
_RENEW = "renew it in place: a running shipper reads the file with every connection, twice a minute"


def certificate_findings(config: Config, now: datetime | None = None) -> Iterator[Finding]:
    """A finding for the certificate of this client and that of the CA, where their files can be read."""
    now = now or datetime.now(UTC)
    address = config.redis_address
    if not address.is_tls:
        return
    for key in ("redis_tls_cert_file", "redis_tls_ca_file"):
        option = TLS_KEYS[key]
        in_url = address.options.get(option)
        file = in_url or getattr(config, key)
        until = None if file is None else valid_until(Path(file))
        if until is not None:
            yield _finding(option if in_url else key, file, until, now)


def _finding(subject: str, file: str, until: datetime, now: datetime) -> Finding:
    when = f"{until:%Y-%m-%d %H:%M} UTC"
    if until <= now:
        return problem(subject, f"{file}: the certificate has expired on {when}", _RENEW)
    if until <= now + _SOON:
        return warning(subject, f"{file}: the certificate expires on {when}", _RENEW)
    return ok(subject, f"{file}: the certificate is valid until {when}")
