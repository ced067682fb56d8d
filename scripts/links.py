"""The comparison on bad links: `scripts/compare --links`.

All peers in turn on the same emulated link (kcpq-std-server/tools, link: network namespaces joined by the simulator's
link, for TCP and UDP alike), with the same seeds. Publisher and subscriber are at the near end, the broker at the far
end: a message crosses twice, and the floor is twice the one-way delay. Messages are due at fixed times; latency counts
from when one was due, and is told as a multiple of the floor.
"""

import concurrent.futures
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from common import build_go_peer, find, stop, tell

# Seconds: until a server listens; what a run may take longer than planned. A run that takes longer did not finish.
READY = 10
PATIENCE = 60
WARMUP = 1
# The emulator's exit code where it cannot work.
SKIPPED = 77
PORT = 4000
# A run in which the emulator itself was later than so many ms, at p99, says more about this machine than about the peer.
# It is repeated so many times at most, and the one with the least lateness counts, whatever it says.
LATE = 1.5
REPEATS = 2
BULK_SIZE = 50_000
# Twice what the link and its queue hold on both crossings, and less than what servers throw away.
BULK_WINDOW = 160
OUTAGE = 2.0
# Of a bulk transfer: seconds from when the load is started until the queue counts.
BEGINNING = 1.2


class Row(NamedTuple):
    name: str
    kind: str  # latency, bulk or outage
    delay: float  # ms, one way
    link: str  # flags of the emulator
    size: int = 0
    rate: int = 0
    goal: str = ""
    beside: str = ""  # congestion control of a TCP flow that shares the link


def latency_rows():
    small = ("200 B at 50 Hz", 200, 50)
    video = ("8000 B at 60 Hz", 8000, 60)

    def row(delay, loss, work, goal, burst=None):
        name, size, rate = work
        lossy = f"{loss} % in bursts of {burst}" if burst else f"{loss} % loss" if loss else "no loss"
        link = f"--loss {loss}" + (f" --burst {burst}" if burst else "")
        return Row(f"{delay} ms, {lossy}, {name}", "latency", delay, link, size, rate, goal)

    yield row(15, 0, small, "wire 1.05")
    for loss, goal in [(1, "p99 1.2"), (5, "p99 1.35"), (10, "p99 1.6")]:
        yield row(15, loss, small, f"{goal}, wire 3")
    yield row(15, 0, video, "wire 1.05")
    for loss, goal in [(1, "p99 1.2"), (3, "p99 1.35"), (5, "p99 1.5"), (10, "p99 2.2")]:
        yield row(15, loss, video, f"p50 1.1, {goal}, wire 1.5")
    for work in (small, video):
        yield row(2, 3, work, "p99 3")
    yield row(25, 5, ("128 B at 200 Hz", 128, 200), "p99 1.3, p99.9 1.6")
    for work in (small, video):
        yield row(15, 5, work, "better p99 than each peer", burst=4)


# 100 Mbit/s; the queue holds as much as is under way in a round trip, so that whoever wants to can fill it.
BULK = "--rate 100mbit --queue 1220k"
CAPACITY = 100e6 / 8
ROWS = [
    *latency_rows(),
    Row("50 ms, 100 Mbit/s, 1 % loss, bulk", "bulk", 50, f"--loss 1 {BULK}", goal="share 90 %, queue 20 ms"),
    Row("50 ms, 100 Mbit/s, 1 % loss, bulk beside TCP BBR", "bulk", 50, f"--loss 1 {BULK}", goal="each 25 %", beside="bbr"),
    # TCP without BBR gets one or two percent of such a link alone, so it is given one that does not lose.
    Row("50 ms, 100 Mbit/s, no loss, bulk beside TCP CUBIC", "bulk", 50, BULK, goal="each 25 %", beside="cubic"),
    Row("15 ms, outage of 2 s, 200 B at 50 Hz", "outage", 15, "", 200, 50, "1.5 round trips, nothing lost"),
    Row("15 ms, outage of 2 s, 8000 B at 60 Hz", "outage", 15, "", 8000, 60, "1.5 round trips, nothing lost"),
]


class Peer(NamedTuple):
    key: str
    name: str
    server: list
    client: list
    congestion: str = ""


PEERS = ["nats-bbr", "nats-cubic", "nats-reno", "kcp", "original", "our-client", "our-server"]
DEFAULT_PEERS = "kcpq,nats-bbr,nats-cubic,kcp,original"


def find_peers(kcpq, rivals, folder):
    """All peers that are there, by their keys; tells which are not."""
    ours = [kcpq, "serve", "--open", "-l", "{addr}", "--log-level", "warn"]
    bench = [kcpq, "bench", "pubsub", "-s", "{addr}", "--json", "--no-progress", "--allow-loss"]
    peers = [Peer("kcpq", "kcpq", ours, bench)]
    if nats := find("nats-server"):
        server, client = [nats, "-a", "{host}", "-p", "{port}"], [rivals, "nats", "{addr}"]
        peers += [Peer(f"nats-{control}", f"NATS, {control.upper()}", server, client, control)
                  for control in ("bbr", "cubic", "reno")]
    else:
        tell("nats-server is not here: skipped")
    if go_peer := build_go_peer(folder):
        # A queue that the window of the bulk fills at most.
        server = [go_peer, "serve", "-listen", "{addr}", "-queue", "1000000"]
        client = [go_peer, "bench", "-s", "{addr}"]
        bare = ["-fec", "off", "-ack-at-once"]
        peers += [
            Peer("kcp", "bare KCP (kcp-go)", server + bare, client + bare),
            Peer("original", "original (FEC 10+3)", server, client),
            Peer("our-client", "kcpq's client, original server", server, bench),
            Peer("our-server", "original client, kcpq's server", ours, client),
        ]
    return {peer.key: peer for peer in peers}


class Line:
    """An emulated link with its two ends; ends with the `with` block."""

    def __init__(self, link, row, seed, congestion):
        command = [link, "--delay", f"{row.delay}ms", "--seed", str(seed), *row.link.split()]
        command += ["--congestion", congestion] if congestion else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ends = self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the link emulator ended with code {self.process.wait()}")
        return json.loads(line)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def command(self, end, command):
        host = self.ends["far"]["addr"]
        return self.enter(end, [word.format(host=host, port=PORT, addr=f"{host}:{PORT}") for word in command])

    def enter(self, end, command):
        net = f"--net=/proc/{self.ends[end]['pid']}/ns/net"
        # Before all that has no real-time priority, so that other work on the machine disturbs less. The emulator comes
        # before them.
        return ["chrt", "--rr", "10", "nsenter", net, "setpriv", "--pdeathsig", "KILL", "--", *command]

    def await_listener(self, process, port):
        """Waits until somebody at the far end waits for connections or datagrams at `port`."""
        deadline = time.monotonic() + READY
        while time.monotonic() < deadline and process.poll() is None:
            for protocol, state in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")]:
                table = Path(f"/proc/{self.ends['far']['pid']}/net/{protocol}").read_text().splitlines()[1:]
                if any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == state for line in table):
                    return
            time.sleep(0.02)
        raise RuntimeError("the server does not listen")


class TcpFlow:
    """Bulk over TCP from near to far beside what is measured, for as long as the `with` block."""

    PORT = 5001
    # Tells what it has got for each line of its standard input.
    SINK = """
import socket, sys, threading
total = 0
def count():
    global total
    flow, _ = server.accept()
    while some := flow.recv(1 << 20):
        total += len(some)
server = socket.create_server(("0.0.0.0", PORT))
threading.Thread(target=count, daemon=True).start()
for _ in sys.stdin:
    print(total, flush=True)
"""
    SOURCE = """
import socket
flow = socket.create_connection(("HOST", PORT))
# Now: when it connects, it takes what the route says.
flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"CONTROL")
while True:
    flow.send(bytes(1 << 16))
"""

    def __init__(self, line, control):
        self.line, self.control = line, control

    def __enter__(self):
        host = self.line.ends["far"]["addr"]

        def run(end, code, **pipes):
            for word, value in [("HOST", host), ("PORT", str(self.PORT)), ("CONTROL", self.control)]:
                code = code.replace(word, value)
            return subprocess.Popen(self.line.enter(end, [sys.executable, "-c", code]), text=True, **pipes)

        self.sink = run("far", self.SINK, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.line.await_listener(self.sink, self.PORT)
        self.source = run("near", self.SOURCE)
        return self

    def __exit__(self, *_):
        stop(self.source)
        stop(self.sink)

    def share(self, seconds):
        """Watches for so long; returns the part of the link that the flow has got."""
        first, begin = self.total(), time.monotonic()
        time.sleep(seconds)
        return (self.total() - first) / (time.monotonic() - begin) / CAPACITY

    def total(self):
        self.sink.stdin.write("\n")
        self.sink.stdin.flush()
        return int(self.sink.stdout.readline())


def measure(tools, peer, row, seed, seconds):
    """One run's figures, or the reason why there are none."""
    with tempfile.TemporaryDirectory() as folder, Line(tools["link"], row, seed, peer.congestion) as line:
        with open(Path(folder) / "log", "wb") as log:
            server = subprocess.Popen(line.command("far", peer.server), stdout=log, stderr=log)
        try:
            line.await_listener(server, PORT)
            if not row.beside:
                return run_bench(line, peer, row, seconds)
            with TcpFlow(line, row.beside) as flow:
                # It has the link to itself first.
                time.sleep(2)
                return run_bench(line, peer, row, seconds, flow)
        except (subprocess.TimeoutExpired, json.JSONDecodeError, RuntimeError) as error:
            return {"failed": "did not finish" if isinstance(error, subprocess.TimeoutExpired) else str(error)}
        finally:
            stop(server)


def measure_calmly(tools, peer, row, seed, seconds):
    """One run's figures, of the run in which this machine disturbed least."""
    runs = []
    while len(runs) <= REPEATS:
        runs.append(measure(tools, peer, row, seed, seconds))
        if runs[-1].get("late_ms", 0) <= LATE:
            break
    return min(runs, key=lambda run: run.get("late_ms", 0)) | {"attempts": len(runs)}


def run_bench(line, peer, row, seconds, beside=None):
    load = ["--size", str(row.size or BULK_SIZE), "--duration", f"{seconds}s", "--warmup", f"{WARMUP}s"]
    load += ["--rate", str(row.rate)] if row.rate else ["--window", str(BULK_WINDOW)]
    line.say("reset")
    bench = subprocess.Popen(line.command("near", peer.client + load), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run = {}
    try:
        if row.kind == "bulk":
            # What the start leaves behind is gone then, or it is a queue that stays.
            time.sleep(BEGINNING)
            line.say("reset")
        if beside:
            time.sleep(WARMUP)
            run["tcp_share"] = beside.share(max(1, seconds - 2))
        if row.kind == "outage":
            time.sleep(WARMUP + seconds / 3)
            line.say(f"outage {OUTAGE}s")
        stdout, stderr = bench.communicate(timeout=3 * seconds + PATIENCE)
    finally:
        stop(bench)
    carried = line.say("stats")
    if not stdout.strip():
        raise RuntimeError(stderr.decode(errors="replace").strip() or "no figures")
    found = json.loads(stdout)
    late = max(carried[way]["late_us"]["p99"] for way in carried)
    run |= {"lost": found["lost"], "late_ms": late / 1e3, "carried": carried, "bench": found}
    if row.kind == "bulk":
        run["share"] = found["bytes_per_s"] / CAPACITY
        run["queue_ms"] = max(carried[way]["queueing_us"]["p95"] for way in carried) / 1e3
        return run
    floor = 2 * row.delay
    latency = {name: value / 1e3 for name, value in (found["latency_us"] or {}).items() if name != "samples"}
    if not latency:
        raise RuntimeError("nothing was delivered")
    run |= {name: latency[name] / floor for name in ("p50", "p99", "p999", "max")}
    if row.kind == "outage":
        run["resumed"] = max(0.0, latency["max"] - OUTAGE * 1e3) / floor
    # Each message crosses twice.
    payload = 2 * row.size * row.rate * (seconds + WARMUP)
    run["wire"] = sum(carried[way]["bytes"] for way in carried) / payload
    run["above"] = sum(carried[way]["payload"] for way in carried) / payload
    return run


def spread(values, form="{:.2f}", worst=max):
    if not values:
        return "-"
    return f"{form.format(statistics.median(values))} ({form.format(worst(values))})"


COLUMNS = {
    "latency": [("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"), ("IP bytes", "wire"),
                ("bytes above UDP or TCP", "above")],
    "outage": [("resumed after, round trips", "resumed"), ("IP bytes", "wire")],
    "bulk": [("share of the link", "share"), ("TCP flow beside", "tcp_share"), ("queue p95, ms", "queue_ms")],
}


def tables(rows, peers, results):
    for kind, title in [
        ("latency", "Latency as a multiple of the floor, bytes as a multiple of the payload's"),
        ("outage", "Outage"),
        ("bulk", "Bulk"),
    ]:
        chosen = [row for row in rows if row.kind == kind]
        if not chosen:
            continue
        head = ["link and work", "goal", "peer", *(name for name, _ in COLUMNS[kind]), "lost"]
        yield f"\n## {title}\n"
        yield "| " + " | ".join(head) + " |"
        yield "|" + "---|" * len(head)
        for row in chosen:
            for index, peer in enumerate(peers):
                runs = results[row.name, peer.key]
                good = [run for run in runs if "failed" not in run]
                cells = [spread([run[key] for run in good if key in run], worst=min if "share" in key else max)
                         for _, key in COLUMNS[kind]]
                lost = f"{sum(run['lost'] for run in good):,}"
                failed = [run["failed"] for run in runs if "failed" in run]
                lost += f"; {len(failed)} of {len(runs)} runs: {failed[0]}" if failed else ""
                first = [row.name, row.goal] if index == 0 else ["", ""]
                yield "| " + " | ".join([*first, peer.name, *cells, lost]) + " |"


def report(rows, peers, results, args):
    late = [run["late_ms"] for runs in results.values() for run in runs if "late_ms" in run]
    noisy = sum(ms > LATE for ms in late)
    return f"""# kcpq and its peers on bad links

{datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores; {args.seeds} seeds, {args.seconds} s each, {args.jobs} at a time.
Median over the seeds, worst in brackets. Publisher and subscriber at the near end, the broker at the far end; delay and
loss are each direction's. Latency counts from when a message was due; the floor is twice the one-way delay. Bytes are
those of both directions and both crossings, acknowledgements included, over twice the payload's.

All programs run with real-time priority, the emulator with a higher one. The emulator delivered later than due by
{spread(late)} ms (p99 of a run). {noisy} of {len(late)} runs exceed {LATE} ms although they were repeated, and say more
about this machine than about the peer.
""" + "\n".join(tables(rows, peers, results)) + f"""

Command: `scripts/compare --links --seeds {args.seeds} --seconds {args.seconds}`.
"""


def main(args, target):
    """Measures and returns the report."""
    link = str(target / "link")
    probe = subprocess.run([link, "--", "true"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if probe.returncode == SKIPPED:
        return tell(probe.stderr.strip())
    if probe.returncode:
        sys.exit(probe.stderr)
    with tempfile.TemporaryDirectory() as folder:
        known = find_peers(str(target / "kcpq"), str(target / "rivals"), folder)
        peers = [known[key] for key in (args.peers or DEFAULT_PEERS).split(",") if key in known]
        rows = [row for row in ROWS if not args.only or re.search(args.only, row.name) or args.only == row.kind]
        results = {(row.name, peer.key): [] for row in rows for peer in peers}
        writing = threading.Lock()

        def run(seed, row, peer):
            figures = measure_calmly({"link": link}, peer, row, seed, args.seconds)
            with writing:
                results[row.name, peer.key].append({"seed": seed, **figures})
                shown = {key: round(figures[key], 2) for _, key in COLUMNS[row.kind] if key in figures}
                tell(f"seed {seed}: {row.name}: {peer.name}: {figures.get('failed') or shown}")

        works = [(seed, row, peer) for seed in range(1, args.seeds + 1) for row in rows for peer in peers]
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda work: run(*work), [work for work in works if work[1].kind != "bulk"]))
        # These want the machine for themselves.
        for work in works:
            if work[1].kind == "bulk":
                run(*work)
        if args.raw:
            raw = [{"row": row, "peer": peer, "runs": runs} for (row, peer), runs in results.items()]
            args.raw.write_text(json.dumps(raw, indent=1))
        return report(rows, peers, results, args)
