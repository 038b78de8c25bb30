"""The files that TLS needs here: whether they can be used, and until when certificates are valid."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hsm_shipper.errors import ConfigError, unseen_hint

# Tags of ASN.1 (X.690). The other time that a certificate may have is GeneralizedTime, with a long year.
_UTC_TIME = 0x17
_VERSION = 0xA0

_LOOK = "look at its owner and its content"


class _Files:
    """The files that `kwargs` of redis-py name; `keys` are the keys of the configuration that they came from."""

    def __init__(self, kwargs: Mapping[str, Any], keys: Mapping[str, str]) -> None:
        self._keys = keys
        self.certificate: Any = kwargs.get("ssl_certfile")
        self.key: Any = kwargs.get("ssl_keyfile")
        self.password: str | None = kwargs.get("ssl_password")
        self.authorities: list[Any] = [kwargs.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")]

    def named(self, option: str) -> str:
        return self._keys.get(option, option)

    def check_own(self) -> None:
        """Certificate and key of this client."""
        text = self._read("ssl_certfile", self.certificate)
        if "-----BEGIN CERTIFICATE-----" not in text and "-----BEGIN TRUSTED CERTIFICATE-----" not in text:
            raise self._unusable("ssl_certfile", self.certificate, "there is no certificate in it, or not as PEM")
        where = "ssl_certfile" if self.key is None else "ssl_keyfile"
        file = self.key or self.certificate
        key_text = self._read(where, file)
        if "PRIVATE KEY-----" not in key_text:
            raise self._unusable(where, file, "there is no private key in it, or not as PEM")
        try:
            # Without any password OpenSSL asks the terminal for one.
            _context().load_cert_chain(self.certificate, self.key, self.password or "")
        except (OSError, ValueError) as error:  # ssl.SSLError among them
            raise self._unusable(where, file, self._why(error, key_text)) from None

    def _why(self, error: Exception, key_text: str) -> str:
        password = "redis_tls_key_password_file" if self._keys else "ssl_password"
        if getattr(error, "reason", None) in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            return f"the key does not fit {self.named('ssl_certfile')} {self.certificate}"
        if "ENCRYPTED" in key_text:
            return f"it is encrypted, and {password} is {'wrong' if self.password else 'not set'}"
        return f"{error}"

    def check_authorities(self) -> None:
        """What is trusted."""
        if self.authorities[0] is not None:
            self._read("ssl_ca_certs", self.authorities[0])
        where = self.authorities[0] or self.authorities[1] or "(ssl_ca_data)"
        try:
            _context().load_verify_locations(*self.authorities)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            if why == "NO_CERTIFICATE_OR_CRL_FOUND":
                why = "there is no certificate in it, or not as PEM"
            raise self._unusable("ssl_ca_certs", where, why) from None

    def _read(self, option: str, file: Any) -> str:
        try:
            return Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            hint = unseen_hint(str(file), _LOOK)
            raise self._unusable(option, file, error.strerror or str(error), hint) from None

    def _unusable(self, option: str, file: Any, why: str, hint: str = _LOOK) -> ConfigError:
        return ConfigError(f"{self.named(option)} {file} cannot be used: {why}", hint)


def check_certificates(kwargs: Mapping[str, Any], keys: Mapping[str, str]) -> None:
    """Raise `ConfigError`, which names the file and the reason, unless certificates and keys can be used.

    redis-py would tell at the first command, as if Redis were down. `kwargs` are its arguments; `keys` has, by their
    names there, the keys of the configuration that they came from.
    """
    files = _Files(kwargs, keys)
    if files.key is not None and files.certificate is None:
        other = "redis_tls_cert_file" if "ssl_keyfile" in keys else "ssl_certfile"
        raise ConfigError(
            f"{files.named('ssl_keyfile')} is there without {other}", "name the certificate that the key is of"
        )
    if files.certificate is not None:
        files.check_own()
    if any(files.authorities):
        files.check_authorities()


def valid_until(file: Path) -> list[datetime | None]:
    """When each certificate in a PEM file expires, in order; None for one that does not tell, none without a file."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    bodies = [part.partition("-----END CERTIFICATE-----")[0] for part in text.split("-----BEGIN CERTIFICATE-----")[1:]]
    return list(map(_end_of, bodies))


def _end_of(body: str) -> datetime | None:
    try:
        return _not_after(ssl.PEM_cert_to_DER_cert(f"{ssl.PEM_HEADER}{body}{ssl.PEM_FOOTER}"))
    except (ValueError, IndexError):
        return None


def _not_after(der: bytes) -> datetime:
    """Certificate, its body (behind version, serial number, algorithm and issuer), validity, the second of two times.

    RFC 5280, 4.1.
    """
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    tag, _, end = _element(der, at)
    for _ in range(3 if tag == _VERSION else 2):
        _, _, end = _element(der, end)
    _, at, _ = _element(der, end)
    _, _, at = _element(der, at)
    tag, at, end = _element(der, at)
    text = der[at:end].decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag of the element at `at`, and where its content begins and ends."""
    tag, length, begin = der[at], der[at + 1], at + 2
    if length & 0x80:
        more = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + more], "big"), begin + more
    return tag, begin, begin + length


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
