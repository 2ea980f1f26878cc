"""A host whose instances are on a small disk of their own, which can be filled."""

import contextlib
import errno
import os
import subprocess

# Room for one server of the smallest flavor, as the host promises it, and for its image.
SMALL_MIB = 1600


@contextlib.contextmanager
def small_disk(live, host):
    """The host's instances are on that disk meanwhile. The host has no server before and none after."""
    place = live.hosts.folder(host)
    agent = live.cloud.agents[host]
    agent.stop()
    os.makedirs(place, mode=0o711, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m,mode=0711", "apus-small", place], check=True)
    try:
        live.settings(hosts=[host])
        yield
    finally:
        agent.stop()
        subprocess.run(["umount", place], check=True)
        live.settings(hosts=[host])


@contextlib.contextmanager
def filled(place):
    """The disk has no room left."""
    path = os.path.join(place, "filler")
    with open(path, "wb") as file:
        # Others write there meanwhile: what is free is found out by taking it.
        size, piece = 0, 64 << 20
        while piece >= 4096:
            try:
                os.posix_fallocate(file.fileno(), size, piece)
                size += piece
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece //= 2
    try:
        yield
    finally:
        os.unlink(path)
