"""What an error of Redis means, and what to do about it: for the shipper, for `check` and for the tools.

Servers and OpenSSL tell some of it only in the text of an error, and each in its own words: those of Redis 6.2 and 7,
of Valkey, and of the `ssl` module are the ones that are known here.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

import redis
import redis.exceptions

from hsm_shipper.errors import unseen_hint

# The first word of a Redis error is its code (https://redis.io/docs/latest/develop/reference/protocol-spec/).
_HINTS = {
    "OOM": "Redis is at its maxmemory: give it more, or trim the streams",
    "MISCONF": "Redis cannot save to disk and refuses writes: look at its log and its disk",
    "READONLY": "this is a read-only replica: connect to the primary (by Sentinels: redis+sentinel:// in redis_url)",
    "NOAUTH": "set redis_username and redis_password_file",
    "WRONGPASS": "check redis_username and redis_password_file",
    "WRONGTYPE": "the key is no stream: another program uses this prefix; rename the key or change the prefix",
    "CLUSTERDOWN": "slots of the cluster are served by no node: CLUSTER NODES tells which node is down",
    "TRYAGAIN": "its slot is on its way to another node of the cluster: try again",
    "UNBLOCKED": "it has just become a replica: the next poll looks for the primary",
    "NOREPLICAS": "too few replicas are in step (min-replicas-to-write): look at the replicas",
}

_WANTS_OURS = "Redis wants a certificate of this client: set redis_tls_cert_file and redis_tls_key_file"
_NOT_OURS = (
    "Redis does not accept the certificate of this client (redis_tls_cert_file): has it expired, and does Redis trust "
    "its CA? `hsm-action-shipper check` tells the former"
)
# X509_V_ERR_* of OpenSSL (openssl-verification-options(1)): the verify_code of the ssl module.
_UNTRUSTED = (18, 19, 20, 21)
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)

_DENIED_COMMAND = re.compile(r"permissions to run the '([^']+)' command")
# Redis 6.2 puts the place in the script before them.
_DENIED_IN_SCRIPT = re.compile(r"ACL failure in script|The user executing the script can't")
_FULL_IN_SCRIPT = "-OOM command not allowed"


def error_code(error: redis.RedisError) -> str:
    """First word of the server's error reply; only of use for an error that came from a server."""
    # redis-py puts the command before what a transaction was refused with; for asyncio that is a tuple.
    said = str(error).rpartition(" of pipeline caused error: ")[2].lstrip("('\"")
    return error.status_code or said.partition(" ")[0]


def own_hint(error: BaseException) -> str:
    """What to do about one of the errors that this project adds to those of redis-py; empty for another."""
    return getattr(error, "hint", "")


def refusal_hint(error: redis.RedisError) -> str:
    """What to do where the server refuses for another reason than a permission."""
    if own_hint(error):
        return own_hint(error)
    if is_full(error):
        return _HINTS["OOM"]
    if str(error).startswith("DB index"):
        return "the server has fewer databases: look at redis_db, or at the database in redis_url"
    if "unauthenticated" in str(error):  # so Redis 7 refuses a long command of a client that gave no password
        return _HINTS["NOAUTH"]
    if "WAITAOF" in str(error):
        return (
            "redis_wait_fsync needs `appendonly yes`, and Redis 7.2 or Valkey: set it there, or redis_wait_fsync: false"
        )
    if isinstance(error, redis.exceptions.InvalidResponse):
        return "is that Redis? Look at the host and the port"
    return _HINTS.get(error_code(error), "look at the server's log")


def is_full(error: redis.RedisError) -> bool:
    """Whether the server refused because it is at its maxmemory."""
    return isinstance(error, redis.exceptions.OutOfMemoryError) or _FULL_IN_SCRIPT in str(error)


def is_denied(error: redis.RedisError) -> bool:
    """Whether the user lacks a permission: in a script that is no error of its own."""
    return isinstance(error, redis.exceptions.NoPermissionError) or bool(_DENIED_IN_SCRIPT.search(str(error)))


def permission_hint(error: redis.RedisError, keys: str, commands: str) -> str:
    """What to allow a user to whom something is denied: the command, or the keys.

    `keys` and `commands` are all that it needs: not every server tells what it is that a script may not do.
    """
    text = str(error)
    denied = _DENIED_COMMAND.search(text)
    if denied:
        what = f"+{denied[1]}"
    elif re.search(r"\bkeys?\b", text):
        what = f"the keys {keys}"
    else:
        return f"allow this Redis user all that it needs: {commands} on the keys {keys} (docs/permissions.md)"
    return f"allow this Redis user {what}; it needs {commands} on the keys {keys} (docs/permissions.md)"


def tls_hint(error: BaseException) -> str | None:
    """What a person has to put right about TLS; None for an error that may pass, or is none of TLS."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _about_its_certificate(cause.verify_code)
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return _about_the_handshake(cause.reason)
    return None


def reach_hint(error: BaseException, address: str, otherwise: str) -> str:
    """What to look at where a server does not answer: with TLS on one side only, it looks as if it were down."""
    if own_hint(error):
        return own_hint(error)
    if isinstance(error, redis.exceptions.AskError):
        return "the nodes of the cluster do not agree yet on where the slot is"
    if isinstance(error, redis.exceptions.ClusterDownError) and error_code(error) in _HINTS:
        return _HINTS[error_code(error)]
    if address.startswith("rediss"):
        return "is Redis up, is that its port for TLS, and does it want a certificate (redis_tls_cert_file)?"
    cut = any(isinstance(cause, (ConnectionResetError, BrokenPipeError)) for cause in _causes(error))
    if address.startswith("redis") and (cut or "closed by server" in str(error)):
        return "is Redis up, and does it want TLS on that port (rediss://)?"
    if any(isinstance(cause, FileNotFoundError) for cause in _causes(error)):
        return unseen_hint(address.removeprefix("unix://"), otherwise)
    return otherwise


def _about_its_certificate(code: int) -> str:
    if code in _UNTRUSTED:
        return "the certificate of Redis is signed by none that is trusted here: name its CA in redis_tls_ca_file"
    if code == _EXPIRED:
        return "the certificate of Redis has expired: renew it (or is the clock of this host wrong?)"
    if code == _NOT_YET_VALID:
        return "the certificate of Redis is not valid yet: look at the clock of this host"
    if code in _OTHER_NAME:
        return "the certificate of Redis is not for this host name: use a name or an address that it is for"
    return "the certificate of Redis is not accepted: look at it, and at redis_tls_ca_file"


def _about_the_handshake(reason: str) -> str | None:
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return _WANTS_OURS
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return _NOT_OURS
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
        return "there is no TLS on that port: name the port for TLS, or leave TLS out (redis://)"
    if "PROTOCOL_VERSION" in reason or "CIPHER" in reason:
        return "Redis and this host agree on no version or cipher of TLS: look at ssl_min_version and ssl_ciphers"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error`, and what it was raised from or in the handling of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
