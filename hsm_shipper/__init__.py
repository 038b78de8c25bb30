"""Ships the HSM actions of a Lustre metadata server to Redis streams, one per MDT."""


def __getattr__(name: str) -> str:
    """`__version__`, looked up only when asked for: it costs every command's start 35 ms."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("lustre-hsm-action-stream")
