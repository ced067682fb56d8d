"""What requests cost: `scripts/compare --requests`.

A client asks and another one answers with what it was asked, each with a connection of its own: with many under way, and one after the
other at a rate. Beside kcpq the same on nats-server, by the library that Go programs have (nats.go, if Go is there) and spoken by
hand on both sides, which is as fast as it can be; and beside the round trip twice the time that a message of kcpq takes one way.
All on loopback, on this machine; servers are made anew for each run.
"""

import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile

from common import NATS_PEER, Server, build_go_peer, find, report, stop, tell

# Seconds: what a run may take longer than planned.
PATIENCE = 90
KCPQ, LIBRARY, NATS = "kcpq", "nats-server by nats.go", "by hand"
SIZE = 128
WAYS = [KCPQ, LIBRARY, NATS]
# Its name, requests under way, and how many a second at most.
WORKS = [("256 under way", 256, None), ("1,000 a second", 1, 1_000)]


def drive(command, what, args):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "SMOL_THREADS": str(args.threads)})
    try:
        return report(process, what, PATIENCE + 3 * args.seconds)
    finally:
        stop(process)


def measure(tools, way, work, args):
    """One run's figures, with the median of one way in it where that is asked for; None, with the reason told."""
    kcpq, answers, nats, peer = tools
    name, window, rate = work
    what = f"{way}, {name}"
    serve = [nats, "-a", "127.0.0.1", "-p", "{port}"]
    if way == KCPQ:
        serve = [kcpq, "serve", "-l", "127.0.0.1:{port}", "--register", "none"]
    with tempfile.TemporaryDirectory() as folder:
        server, addr = Server(way, serve, "listening on" if way == KCPQ else None).start(folder)
        try:
            paced = ["--rate", str(rate)] if rate else []
            command = [answers, "kcpq" if way == KCPQ else "nats", addr, "--requests", "--subject", "asked", "--window", str(window),
                       "--size", str(SIZE), "--duration", f"{args.seconds}s", *paced]
            if way == LIBRARY:
                command = [peer, f"nats://{addr}", "ask", "asked", *map(str, [SIZE, window, rate or 0, args.seconds])]
            run = drive(command, what, args)
            if run and rate and way == KCPQ:
                command = [kcpq, "bench", "pubsub", "-s", addr, "--size", str(SIZE), "--rate", str(rate), "--duration",
                           f"{args.seconds}s", "--json"]
                run["one_way"] = (drive(command, f"{what}, one way", args) or {}).get("latency_us", {}).get("p50")
            return run
        finally:
            stop(server)


def median(runs, read):
    values = [value for run in runs if run and (value := read(run)) is not None]
    return statistics.median(values) if values else None


def cell(value):
    return "failed" if value is None else f"{value:,.0f}"


def table(results):
    lines = [f"| {SIZE} B | {KCPQ} | {LIBRARY} | {NATS} | ratio to nats.go | to that by hand |", "|---|---|---|---|---|---|"]

    def line(work, what, read, less):
        ours, *peers = (median(results[way, work], read) for way in WAYS)
        ratios = [f"{(theirs / ours if less else ours / theirs):.2f}" if ours and theirs else "" for theirs in peers]
        lines.append(f"| {work[0]}, {what} | " + " | ".join([*map(cell, [ours, *peers]), *ratios]) + " |")

    many, paced = WORKS
    line(many, "requests/s", lambda run: run["msgs_per_s"], False)
    line(many, "p99 µs", lambda run: run["latency_us"]["p99"], True)
    line(paced, "p50 µs", lambda run: run["latency_us"]["p50"], True)
    line(paced, "p99 µs", lambda run: run["latency_us"]["p99"], True)
    trip = median(results[KCPQ, paced], lambda run: run["latency_us"]["p50"])
    one_way = median(results[KCPQ, paced], lambda run: run["one_way"])
    share = f" A round trip at that rate takes {trip / (2 * one_way):.2f} x twice the p50 of one way, {one_way:,.0f} µs." if trip and one_way else ""
    return "\n".join(lines), share


def main(args, target):
    nats = find("nats-server")
    if not nats:
        sys.exit("nats-server is not here: there is nothing to compare with")
    results = {(way, work): [] for way in WAYS for work in WORKS}
    with tempfile.TemporaryDirectory() as folder:
        peer = build_go_peer(folder, NATS_PEER)
        tools = (str(target / "kcpq"), str(target / "answers"), nats, peer)
        ways = WAYS if peer else [KCPQ, NATS]
        for round_ in range(args.rounds):
            for work in WORKS:
                # Each round begins with another one, so that nobody always comes last.
                for way in ways[round_ % len(ways):] + ways[:round_ % len(ways)]:
                    tell(f"round {round_ + 1} of {args.rounds}: {work[0]}: {way}")
                    results[way, work].append(measure(tools, way, work, args))
    rows, share = table(results)
    return f"""# Requests

{datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, loopback, everything on this machine; release build; medians of
{args.rounds} alternating rounds of {args.seconds} s each; load average at the end {os.getloadavg()[0]:.1f}, this included.

{rows}

Ratios above 1 are in favour of kcpq.{share}
Command: `scripts/compare --requests --rounds {args.rounds} --seconds {args.seconds}`.
"""
