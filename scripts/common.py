"""What the comparisons share."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GO_PEER = ROOT / "kcpq-std-server" / "tests" / "go-peer"


def tell(text):
    print(text, file=sys.stderr, flush=True)


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def build_go_peer(folder):
    go = find("go")
    if not go:
        return tell("Go is not here: the Go peer is skipped")
    out = str(Path(folder) / "go-peer")
    gopath = os.environ.get("KCPQ_GOPATH", "/usr/share/gocode")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": gopath}
    built = subprocess.run([go, "build", "-o", out, "."], cwd=GO_PEER, env=environment, capture_output=True, text=True)
    if built.returncode == 0:
        return out
    return tell(f"the Go peer cannot be built (see kcpq-std-server/tests/go-peer/README.md): skipped\n{built.stderr}")
