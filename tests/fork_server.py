"""A `python` and a `videollm` that start at once: each command runs in a process forked from one that has imported the
libraries.

Their import takes 2 to 12 seconds of processor time, and a run of the tests starts hundreds of commands. The modules of
the project itself are imported by each command.
"""

import atexit
import gc
import json
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

# Not LanceDB and OpenVINO, which start threads that a fork does not copy.
LIBRARIES = (
    "torchvision",
    "lance_namespace",
    "transformers.models.llama.modeling_llama",
    "peft",
    "deepspeed",
    "gradio",
    "av",
)

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
arguments = sys.argv[1:]
name = os.path.basename(sys.argv[0])
if name == "python" and (not arguments or arguments[0][0] == "-" and arguments[0] not in ("-c", "-m")):
    os.execv({python!r}, [{python!r}, *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([name, arguments, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
server.sendall(request)
process = int.from_bytes(server.recv(8, socket.MSG_WAITALL), "big")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(process, number))
code = int.from_bytes(server.recv(8, socket.MSG_WAITALL), "big", signed=True)
if code < 0:  # a signal ended it
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@cache
def programs() -> Path:
    """Returns the folder of `python` and `videollm`, to be put first on PATH. The server ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="videollm-programs-"))
    atexit.register(shutil.rmtree, folder)
    address = str(folder / "socket")
    for name in ("python", "videollm"):
        (folder / name).write_text(CLIENT.format(python=sys.executable, address=address))
        (folder / name).chmod(0o755)
    until, _ = os.pipe()  # which is closed when this process ends
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fork_server", address],
        stdin=until,
        stdout=subprocess.PIPE,
        env=os.environ | {"DS_ACCELERATOR": "cpu"},  # read when deepspeed is imported
        cwd=Path(__file__).parents[1],
    )
    os.close(until)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    return folder


def python() -> str:
    """Returns what to start in place of `sys.executable` for `python FILE`, `python -m MODULE` and `python -c CODE`."""
    return str(programs() / "python")


def serve(address: str) -> None:
    """Runs the commands of clients until standard input ends. A command is killed when its client is."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    running: dict[socket.socket, tuple[multiprocessing.process.BaseProcess, int]] = {}  # by the connections of clients
    while True:
        ended = {descriptor: client for client, (_, descriptor) in running.items()}
        for ready in wait([listener, sys.stdin.fileno(), *ended, *running]):
            if ready == sys.stdin.fileno():
                for process, _ in running.values():
                    _kill(process)
                return
            if ready is listener:
                client, _ = listener.accept()
                size, streams, _, _ = socket.recv_fds(client, 8, 3)
                request = client.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
                arguments = (streams, [listener, client, *running], *json.loads(request))
                process = multiprocessing.get_context("fork").Process(target=_run, args=arguments)
                process.start()
                for stream in streams:
                    os.close(stream)
                client.sendall(process.pid.to_bytes(8, "big"))
                # The sentinel of the process would also be ready when a command replaces itself by another program.
                running[client] = process, os.pidfd_open(process.pid)
            elif ready in ended:
                process, descriptor = running.pop(ended[ready])
                os.close(descriptor)
                process.join()
                with suppress(BrokenPipeError), ended[ready] as client:
                    client.sendall(process.exitcode.to_bytes(8, "big", signed=True))
            elif ready in running:  # its client has ended
                _kill(running[ready][0])


def _kill(process: multiprocessing.process.BaseProcess) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _run(
    streams: list[int],
    sockets: list[socket.socket],
    name: str,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
) -> None:
    """Runs `python ARGUMENTS` or `videollm ARGUMENTS` in this process."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for each in sockets:
        each.close()
    # These three last as long as the process.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    tempfile.tempdir = None  # read from the environment
    if name == "videollm":
        arguments = [str(Path(sys.executable).with_name(name)), *arguments]
    kind, *rest = arguments
    sys.argv = rest if kind == "-m" else [kind, *rest[1:]] if kind == "-c" else arguments
    sys.path[0] = {"-m": folder, "-c": ""}.get(kind, str(Path(kind).resolve().parent))  # it was the server's
    if kind == "-c":
        program = sys.modules["__main__"] = ModuleType("__main__")
        exec(rest[0], program.__dict__)
    elif kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    for library in LIBRARIES:
        import_module(library)
    gc.freeze()  # the garbage collector would copy the pages that the processes share
    print("ready", flush=True)
    serve(sys.argv[1])
