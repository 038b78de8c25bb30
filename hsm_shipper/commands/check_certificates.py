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
        ends = [] if file is None else valid_until(Path(file))
        # Of a chain the first is ours. Of authorities any may be the one that counts: old and new ones lie side by side
        # while they are exchanged, and what has expired is then nothing that is wrong.
        told = [end for end in (ends if option == "ssl_ca_certs" else ends[:1]) if end is not None]
        if told:
            what = f"the last of its {len(told)} certificates" if len(told) > 1 else "the certificate"
            yield _finding(option if in_url else key, f"{file}: {what}", max(told), now)


def _finding(subject: str, what: str, until: datetime, now: datetime) -> Finding:
    when = f"{until:%Y-%m-%d %H:%M} UTC"
    if until <= now:
        return problem(subject, f"{what} has expired on {when}", _RENEW)
    if until <= now + _SOON:
        return warning(subject, f"{what} expires on {when}", _RENEW)
    return ok(subject, f"{what} is valid until {when}")
