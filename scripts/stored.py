"""What it costs to store messages through kcpq: `scripts/compare --stored`.

Messages are stored by a stream of JetStream, on disk: by a client of kcpq whose server stands on the NATS server, and by a client
of that which publishes without waiting for each, both with as many messages under way. The latter gives messages no ids, or each
one of its own as servers of kcpq do: what that costs is JetStream's. All on loopback, on this machine; servers and stream are made
anew for each run, in a folder for temporary files, whose disk it is.
"""

import datetime
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Server, find, report, stop, tell

# Seconds: what a run may take longer than planned.
PATIENCE = 90
SUBJECT = "compare.stored"
KCPQ, IDS, NATS = "through kcpq", "JetStream with ids", "JetStream"
WAYS = [KCPQ, IDS, NATS]
# Messages under way, and bytes of each.
WORKS = [(1, 128), (100, 128), (1_000, 128), (1_000, 1_024)]


def name(work):
    return f"{work[0]:,} under way, {work[1]:,} B"


def make_stream(addr):
    host, port = addr.rsplit(":", 1)
    config = json.dumps({"name": "COMPARE", "subjects": [SUBJECT], "storage": "file"})
    with socket.create_connection((host, int(port)), timeout=10) as stream, stream.makefile("rb") as lines:
        stream.sendall(b'CONNECT {"verbose":false}\r\nSUB _INBOX.made 1\r\n'
                       + f"PUB $JS.API.STREAM.CREATE.COMPARE _INBOX.made {len(config)}\r\n{config}\r\n".encode())
        for line in lines:
            if line.startswith(b"MSG "):
                answer = json.loads(lines.read(int(line.split()[-1])))
                if "error" in answer:
                    sys.exit(f"no stream: {answer['error']}")
                return
    sys.exit("no stream: the NATS server says nothing")


def measure(tools, way, work, seconds, threads):
    """One run's figures, or None, with the reason told."""
    kcpq, answers, nats = tools
    window, size = work
    running = []
    with tempfile.TemporaryDirectory() as folder:
        def server(server):
            place = Path(folder) / str(len(running))
            place.mkdir()
            process, addr = server.start(place)
            running.append(process)
            return addr

        try:
            addr = server(Server(NATS, [nats, "-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", str(Path(folder) / "store")]))
            make_stream(addr)
            by = "nats"
            if way == KCPQ:
                command = [kcpq, "serve", "-l", "127.0.0.1:{port}", "--register", "none", "--nats", f"nats://{addr}"]
                by, addr = "kcpq", server(Server(KCPQ, command, "the backbone is there"))
            command = [answers, by, addr, "--subject", SUBJECT, "--window", str(window), "--size", str(size),
                       "--duration", f"{seconds}s", *(["--ids"] if way == IDS else [])]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                            env={**os.environ, "SMOL_THREADS": str(threads)}))
            return report(running[-1], f"{way}, {name(work)}", PATIENCE + 3 * seconds)
        finally:
            for process in reversed(running):
                stop(process)


def table(works, results):
    lines = ["| work | " + " | ".join(WAYS) + " | to that with ids | to that without |", "|---" * (len(WAYS) + 3) + "|"]
    for work in works:
        for what, read, less in [("msg/s", lambda run: run["msgs_per_s"], False),
                                 ("µs, p50", lambda run: run["latency_us"]["p50"], True),
                                 ("µs, p99", lambda run: run["latency_us"]["p99"], True)]:
            values = {way: [read(run) for run in results[way, work] if run] for way in WAYS}
            medians = {way: statistics.median(values[way]) if values[way] else None for way in WAYS}
            cells = ["failed" if medians[way] is None else f"{medians[way]:,.0f}" for way in WAYS]

            def ratio(theirs):
                known = medians[KCPQ] and medians[theirs]
                ours, theirs = medians[KCPQ], medians[theirs]
                return f"{(theirs / ours if less else ours / theirs):.2f}" if known else ""

            lines.append("| " + " | ".join([f"{name(work)}, {what}", *cells, ratio(IDS), ratio(NATS)]) + " |")
    return "\n".join(lines)


def main(args, target):
    nats = find("nats-server")
    if not nats:
        sys.exit("nats-server is not here: there is nothing that stores")
    works = [work for work in WORKS if not args.only or args.only in name(work)]
    tools = (str(target / "kcpq"), str(target / "answers"), nats)
    results = {(way, work): [] for way in WAYS for work in works}
    for round_ in range(args.rounds):
        for work in works:
            # Each round begins with another one, so that nobody always comes last.
            for way in WAYS[round_ % len(WAYS):] + WAYS[:round_ % len(WAYS)]:
                tell(f"round {round_ + 1} of {args.rounds}: {name(work)}: {way}")
                results[way, work].append(measure(tools, way, work, args.seconds, args.threads))
    return f"""# Messages stored by JetStream

{datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, loopback, everything on this machine; release build; medians of
{args.rounds} alternating rounds of {args.seconds} s each; load average at the end {os.getloadavg()[0]:.1f}, this included.

{table(works, results)}

Ratios above 1 are in favour of kcpq. Times are from a publish to its acknowledgement.
Command: `scripts/compare --stored --rounds {args.rounds} --seconds {args.seconds}`.
"""
