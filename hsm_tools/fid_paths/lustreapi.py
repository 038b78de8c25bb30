"""A program of its own: `lfs fid2path -f -0 --link 0 MOUNT FID...` by liblustreapi, which any release of it can do.

It prints `FID path` and a NUL for each FID that has a path, the others on stderr, and exits with the first errno. A FID
whose path is too long for the library is printed without one. It is run as a file, without the rest of the package, to
start in a few milliseconds; `ELIBACC` says that there is no library.
"""

import ctypes
import errno
import os
import sys

LIBRARIES = ("liblustreapi.so.1", "liblustreapi.so")
_PATH_MAX = 4096  # of lustreapi's own callers, the final NUL included
_TOO_LONG = (errno.ENAMETOOLONG, errno.EOVERFLOW, errno.ERANGE)


def main(arguments: list[str]) -> int:
    """Print the paths of the FIDs after the mount point, the first of `arguments`; returns the exit code."""
    library = _load()
    if library is None:
        return errno.ELIBACC
    folder, *fids = arguments
    path = ctypes.create_string_buffer(_PATH_MAX)
    root = os.fsencode(folder).rstrip(b"/")
    status = 0
    for fid in fids:
        record, link = ctypes.c_longlong(-1), ctypes.c_int(0)
        failed = -library.llapi_fid2path(
            os.fsencode(folder), fid.encode(), path, len(path), ctypes.byref(record), ctypes.byref(link)
        )
        if failed in _TOO_LONG or (not failed and len(path.value) >= _PATH_MAX - 1):  # it may have been cut there
            sys.stdout.buffer.write(fid.encode() + b" \0")
        elif failed:
            status = status or failed
            sys.stderr.write(f"cannot find {fid}: {os.strerror(failed)}\n")
        else:
            sys.stdout.buffer.write(fid.encode() + b" " + root + b"/" + path.value.lstrip(b"/") + b"\0")
    return status


def _load() -> ctypes.CDLL | None:
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
            library.llapi_msg_set_level(0)  # LLAPI_MSG_OFF: what fails is said here
            library.llapi_fid2path.restype = ctypes.c_int
        except (OSError, AttributeError):
            continue
        return library
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
