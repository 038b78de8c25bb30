"""The password of Redis as its file has it now: one that was changed needs no restart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from redis.credentials import CredentialProvider

from hsm_shipper.errors import ConfigError


class PasswordFile(CredentialProvider):
    """Tells redis-py user and password for every connection that it makes.

    `read` reads the file, and raises `ConfigError` where it cannot be read: at the beginning that is an error, later,
    or where nothing is in it, the password stays what it was.
    """

    def __init__(self, read: Callable[[], str], username: str | None) -> None:
        self._read = read
        self._username = username
        self.password = read()

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """As redis-py asks for them."""
        with suppress(ConfigError):  # it is being replaced, or written: then it may be empty for a moment
            self.password = self._read() or self.password
        return (self._username, self.password) if self._username else (self.password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same for asyncio."""
        return self.get_credentials()
