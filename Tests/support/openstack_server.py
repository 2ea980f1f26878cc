"""Runs `openstack` commands in processes that are forked from one which has imported the client already.

The client is the one from PyPI, untouched; what is saved is the second that each start of it takes to import its modules.
Run by the client's own interpreter, with the path of a socket; `openstack_quick` is what tests call in its place.
"""

import array
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys

import openstackclient.shell

PACKAGES = ("openstackclient.common", "openstackclient.compute.v2", "openstackclient.identity.v3",
            "openstackclient.image.v2", "openstackclient.network.v2", "openstack.compute.v2", "openstack.image.v2",
            "openstack.identity.v3", "osc_placement.resources", "keystoneauth1.loading._plugins")
MOST_BYTES = 1 << 20


def preload():
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, name + "."):
            if ".tests" not in module.name:
                importlib.import_module(module.name)


def receive(connection):
    """What is to be run, and the three files of the caller."""
    data, control, _, _ = connection.recvmsg(MOST_BYTES, socket.CMSG_LEN(3 * 4))
    files = array.array("i")
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(content[:len(content) - len(content) % files.itemsize])
    while not data.endswith(b"\n"):
        more = connection.recv(MOST_BYTES)
        if not more:
            raise EOFError
        data += more
    return json.loads(data), files


def command(connection):
    asked, files = receive(connection)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.argv = ["openstack", *asked["arguments"]]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # The interpreter's own objects for the three files are those of the server.
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
    try:
        code = openstackclient.shell.main(sys.argv[1:])
    except SystemExit as ended:
        code = ended.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(b"%d\n" % (code or 0))


def serve(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                command(connection)
                code = 0
            finally:
                os._exit(code)
        connection.close()


preload()
serve(sys.argv[1])
