"""Ships the HSM actions of a Lustre metadata server to Redis streams, one per MDT."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lustre-hsm-action-stream")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
