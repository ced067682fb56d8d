"""What the original's clients get out of a server: `scripts/compare --through`.

The same publishers and subscribers, with kcpq's server and then with the Go peer's server between them, each of which is
started anew for each run; runs alternate. Clients are those of the Go peer, which stand for the original's, on connections
of their own; in some works kcpq's clients are at one end, or share a subject with them. All on loopback, on this machine.
"""

import datetime
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from common import Server, build_go_peer, report, stop, tell

# Seconds: what a run may take longer than planned.
PATIENCE = 60
# Seconds for a subscriber to subscribe before others publish.
SUBSCRIBE = 1
WARMUP = 1
KEY = bytes(range(32)).hex()

ORIGINAL, KCPQ = "original", "kcpq"


class Work(NamedTuple):
    name: str
    size: int
    window: int = 0  # most messages under way, or
    rate: int = 0  # messages per second, due at fixed times
    subs: int = 1
    publisher: str = ORIGINAL
    subscriber: str = ORIGINAL
    beside: bool = False  # an original subscriber to the same subject


WORKS = [
    Work("1 -> 1, 128 B, window 1,000", 128, window=1000),
    Work("1 -> 1, 1 KiB, window 500", 1024, window=500),
    Work("1 -> 1, 50 kB, window 16", 50_000, window=16),
    Work("1 -> 1, 128 B at 1,000/s", 128, rate=1000),
    Work("1 -> 1, 50 kB at 60/s", 50_000, rate=60),
    Work("1 -> 3, 150 kB at 30/s", 150_000, rate=30, subs=3),
    Work("kcpq -> original, 128 B at 1,000/s", 128, rate=1000, publisher=KCPQ),
    Work("kcpq -> original, 50 kB at 60/s", 50_000, rate=60, publisher=KCPQ),
    Work("original -> kcpq, 128 B at 1,000/s", 128, rate=1000, subscriber=KCPQ),
    Work("original -> kcpq, 50 kB at 60/s", 50_000, rate=60, subscriber=KCPQ),
    Work("kcpq -> kcpq, 50 kB at 60/s", 50_000, rate=60, publisher=KCPQ, subscriber=KCPQ),
    Work("the same beside an original subscriber", 50_000, rate=60, publisher=KCPQ, subscriber=KCPQ, beside=True),
]
# The original's versions: whether they encrypt.
VERSIONS = [("2.0, plaintext", False), ("2.1, AES-256", True)]


class Tools(NamedTuple):
    kcpq: str
    go_peer: str

    def servers(self, aes):
        # kcpq finds the key in its environment.
        ours = [self.kcpq, "serve", "-l", "127.0.0.1:{port}", "--log-level", "warn"]
        theirs = [self.go_peer, "serve", "-listen", "127.0.0.1:{port}"] + (["-aes"] if aes else [])
        return [Server(KCPQ, ours, "listening"), Server(ORIGINAL, theirs, "listening")]

    def bench(self, kind, aes, addr, roles, load):
        """The command of clients of a kind. `roles` is pub, sub or pubsub; `load` are flags without dashes."""
        if kind == KCPQ:
            command, dashes = [self.kcpq, "bench", roles, "-s", addr, "--json", "--no-progress", "--allow-loss"], "--"
        else:
            command, dashes = [self.go_peer, "bench", "-s", addr] + (["-aes"] if aes else []), "-"
            if roles != "pubsub":
                load = {**load, "pubs" if roles == "sub" else "subs": 0}
        return command + [word for name, value in load.items() for word in (dashes + name, str(value))]


def measure(tools, server, work, aes, seconds):
    """One run's figures as the subscribers see them, or None, with the reason told."""
    environment = {**os.environ, "KCPQ_AES256_KEY_HEX": KEY if aes else ""}
    running = []

    def start(kind, addr, roles, load):
        command = tools.bench(kind, aes, addr, roles, {"duration": f"{seconds}s", **load})
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment))
        return running[-1]

    with tempfile.TemporaryDirectory() as folder:
        process, addr = server.start(folder, environment)
        running.append(process)
        pace = {"rate": work.rate} if work.rate else {"window": work.window}
        load, warmup, subs = {"size": work.size, **pace}, {"warmup": f"{WARMUP}s"}, {"subs": work.subs}
        try:
            if work.beside:
                start(ORIGINAL, addr, "sub", {"duration": f"{seconds + WARMUP}s"})
                time.sleep(SUBSCRIBE)
            if work.publisher == work.subscriber:
                found = start(work.publisher, addr, "pubsub", load | warmup | subs)
            else:
                found = start(work.subscriber, addr, "sub", {"size": work.size} | warmup | subs)
                time.sleep(SUBSCRIBE)
                # Longer than is measured, so that the subscribers' time is full whenever their first message comes.
                start(work.publisher, addr, "pub", load | {"duration": f"{seconds + WARMUP + 1}s"})
            return report(found, f"{server.name}, {work.name}", PATIENCE + 3 * seconds)
        finally:
            for process in reversed(running):
                stop(process)


def figures(work, seconds):
    """The table's rows of a work: what, how a run's value is read, its form, and whether less is better."""
    def latency(name):
        # A run may have measured none.
        return f"{name}, ms", lambda run: run["latency_us"] and run["latency_us"][name] / 1e3, "{:,.2f}", True

    if not work.rate:
        return [("msg/s", lambda run: run["msgs_per_s"], "{:,.0f}", False), latency("p50")]
    in_time = []
    # kcpq's own subscribers do not tell when they are in the publisher's process.
    if work.subscriber == ORIGINAL or work.publisher == ORIGINAL:
        due = work.rate * seconds * work.subs
        in_time = [("% delivered within the run", lambda run: 100 * min(1, run.get("in_time", run["delivered"]) / due),
                    "{:.1f}", False)]
    return [latency("p50"), latency("p99"), *in_time]


def cell(runs, read, form):
    values = [value for run in runs if run and (value := read(run)) is not None]
    if not values:
        return None, "failed"
    notes = [f"lost {lost:,}"] if (lost := sum(run["lost"] for run in runs if run)) else []
    notes += [f"{len(runs) - len(values)} of {len(runs)} failed"] if len(values) < len(runs) else []
    median = statistics.median(values)
    return median, form.format(median) + (f" ({', '.join(notes)})" if notes else "")


def table(version, results, seconds):
    works = [work for work in WORKS if (version, work, KCPQ) in results]
    if not works:
        return
    yield f"\n## {version}\n"
    yield "| work | | through kcpq | through the original | ratio |"
    yield "|" + "---|" * 5
    for work in works:
        for index, (name, read, form, less) in enumerate(figures(work, seconds)):
            (ours, our_text), (theirs, their_text) = (cell(results[version, work, server], read, form)
                                                      for server in (KCPQ, ORIGINAL))
            ratio = f"{(theirs / ours if less else ours / theirs):.2f}" if ours and theirs else ""
            yield "| " + " | ".join([work.name if index == 0 else "", name, our_text, their_text, ratio]) + " |"


def document(results, args):
    tables = [line for version, _ in VERSIONS for line in table(version, results, args.seconds)]
    return f"""# The original's clients through kcpq's server and through the original's

{datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, loopback, everything on this machine; release build; medians of
{args.rounds} alternating rounds of {args.seconds} s each; load average at the end {os.getloadavg()[0]:.1f}, this included.
"Original" is the Go peer of the compatibility tests: its protocol and settings over kcp-go 5.6.1.
""" + "\n".join(tables) + f"""

Ratios above 1 are in favour of kcpq: its rate by the other's, and the other's latency by its. With a rate, latency counts
from when a message was due. Command: `scripts/compare --through --rounds {args.rounds} --seconds {args.seconds}`.
"""


def main(args, target):
    """Measures and returns the report."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        go_peer = build_go_peer(folder)
        if not go_peer:
            sys.exit("there is nothing to compare with")
        tools = Tools(str(target / "kcpq"), go_peer)
        for round_ in range(args.rounds):
            for (version, aes), work in itertools.product(VERSIONS, WORKS):
                if args.only and args.only not in f"{version}: {work.name}":
                    continue
                servers = tools.servers(aes)
                # Each round begins with the other one, so that nobody always comes first.
                for server in servers[round_ % 2:] + servers[:round_ % 2]:
                    run = measure(tools, server, work, aes, args.seconds)
                    results.setdefault((version, work, server.name), []).append(run)
                    shown = [form.format(value) for _, read, form, _ in figures(work, args.seconds)
                             if run and (value := read(run)) is not None]
                    tell(f"round {round_ + 1} of {args.rounds}: {version}: {work.name}: {server.name}: {', '.join(shown)}")
    return document(results, args)
