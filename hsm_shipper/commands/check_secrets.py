"""The part of `check` that looks who else may read what should stay between Redis and the shipper."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hsm_shipper.commands.findings import Finding, warning
from hsm_shipper.config import ENV_PREFIX, LoadedConfig
from hsm_shipper.contract.redis_address_options import SECRET_OPTIONS
from hsm_shipper.supervision.launch import LOG_FILE

_SECRET_FILES = {
    "redis_password_file": "the password of Redis",
    "redis_sentinel_password_file": "the password of the Sentinels",
    "redis_tls_key_file": "the key of our certificate",
    "redis_tls_key_password_file": "the password of the key of our certificate",
}


def secrets_findings(loaded: LoadedConfig) -> Iterator[Finding]:
    """A warning for each file with a secret, and each log, that every user of this server may read."""
    for subject, path, what in _files(loaded):
        if _others_may_read(path):
            yield warning(subject, f"{path}: other users may read {what}", f"chmod o= {path}")


def _files(loaded: LoadedConfig) -> Iterator[tuple[str, Path, str]]:
    config = loaded.config
    options = config.redis_address.options
    in_file = loaded.file is not None and f"{ENV_PREFIX}REDIS_URL" not in os.environ
    if in_file and config.redis_url is not None and SECRET_OPTIONS & options.keys():
        yield "configuration", Path(str(loaded.file)), "the password in redis_url"
    for key, what in _SECRET_FILES.items():
        if getattr(config, key) is not None:
            yield key, Path(getattr(config, key)), what
    if "ssl_keyfile" in options:
        yield "ssl_keyfile", Path(options["ssl_keyfile"]), _SECRET_FILES["redis_tls_key_file"]
    log = Path(config.log_file) if config.log_file else config.run_path / LOG_FILE
    yield "log_file", log, "the log"


def _others_may_read(path: Path) -> bool:
    """Whether `path` is there, and its mode and those of the folders above let everybody read it."""
    try:
        path = path.resolve(strict=True)
        folders = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
        return folders and bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # not there, or not to be seen: the part that needs it says so
