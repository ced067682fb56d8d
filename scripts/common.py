"""What the comparisons share."""

import filecmp
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GO_PEER = ROOT / "kcpq-std-server" / "tests" / "go-peer"
NATS_PEER = GO_PEER.with_name("nats-peer")
# Seconds: a server that does not get ready by then is given up.
READY = 60


def tell(text):
    print(text, file=sys.stderr, flush=True)


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def copy_sources(into):
    """The sources as they are, whether they are committed or not. What is the same already stays, with its time."""
    files = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split("\n")
    for file in filter(None, files):
        if (ROOT / file).is_file() and not ((into / file).is_file() and filecmp.cmp(ROOT / file, into / file, shallow=False)):
            (into / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, into / file)


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def report(process, what, patience):
    """What a driver says in JSON when it is done, within `patience` seconds; None, with the reason told, if it does not."""
    try:
        stdout, stderr = process.communicate(timeout=patience)
        return json.loads(stdout)
    except subprocess.TimeoutExpired as error:
        return tell(f"{what}: {error}")
    except json.JSONDecodeError:
        return tell(f"{what}: {process.returncode}: {stderr}")


def free_port():
    """A port that is free for both TCP and UDP at the moment."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return tcp.getsockname()[1]


class Server:
    """How to start a server: `ready` is what it says then; without it, it accepts TCP connections."""

    def __init__(self, name, command, ready=None, config=None):
        self.name, self.command, self.ready, self.config = name, command, ready, config

    def start(self, folder, environment=None):
        """The process and its address, as soon as it is ready. `folder` is for its files."""
        port = free_port()
        command = [part.format(port=port, folder=folder) for part in self.command]
        if self.config:
            (Path(folder) / "config").write_text(self.config.format(port=port))
        log = open(Path(folder) / "log", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + READY
        while not self.is_ready(port, folder):
            if process.poll() is not None or time.monotonic() > deadline:
                stop(process)
                sys.exit(f"{self.name} does not start:\n{(Path(folder) / 'log').read_text(errors='replace')}")
            time.sleep(0.05)
        return process, f"127.0.0.1:{port}"

    def is_ready(self, port, folder):
        if self.ready:
            return self.ready in (Path(folder) / "log").read_text(errors="replace")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0


def build_go_peer(folder, sources=GO_PEER):
    go = find("go")
    if not go:
        return tell(f"Go is not here: {sources.name} is skipped")
    out = str(Path(folder) / sources.name)
    gopath = os.environ.get("KCPQ_GOPATH", "/usr/share/gocode")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": gopath}
    built = subprocess.run([go, "build", "-o", out, "."], cwd=sources, env=environment, capture_output=True, text=True)
    if built.returncode == 0:
        return out
    return tell(f"{sources.name} cannot be built (see kcpq-std-server/tests/go-peer/README.md): skipped\n{built.stderr}")
