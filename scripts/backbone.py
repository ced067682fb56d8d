"""What a backbone costs, and what crosses it: `scripts/compare --backbone`.

Six ways from a publisher to its subscriber, in turn, each with servers that are started anew for each run: a kcpq server
by itself; the same on a NATS server as its client, which hands it all of it as well, and as a leaf node of it, which does not; from
one kcpq server over NATS to another one, as clients and as leaf nodes; and the NATS server alone. All on loopback, on this machine,
so that what stands beside each other shares its processors.
"""

import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from common import Server, find, free_port, report, stop, tell

# Seconds: what a run may take longer than planned.
PATIENCE = 60
WARMUP = 1

OFF, ON, ACROSS, NATS = "kcpq", "kcpq on NATS", "kcpq -> NATS -> kcpq", "nats-server"
LEAF, LEAF_ACROSS = "kcpq as leaf", "kcpq -> NATS -> kcpq, as leafs"
WAYS = [OFF, ON, LEAF, ACROSS, LEAF_ACROSS, NATS]
LEAFS = [LEAF, LEAF_ACROSS]


class Work(NamedTuple):
    name: str
    size: int
    window: int = 0  # most messages under way, or
    rate: int = 0  # messages per second, due at fixed times

    def load(self):
        pace = ["--rate", str(self.rate)] if self.rate else ["--window", str(self.window)]
        return ["--size", str(self.size), *pace]


WORKS = [
    Work("1 -> 1, 128 B, msg/s", 128, window=30_000),
    Work("1 -> 1, 1 KiB, msg/s", 1024, window=4_000),
    Work("1,000 msg/s, 128 B", 128, rate=1_000),
]


class Run:
    """Servers and clients of one run; all of them are stopped in the end."""

    def __init__(self, kcpq, rivals, nats, folder, threads):
        self.kcpq, self.rivals, self.nats, self.folder = kcpq, rivals, nats, Path(folder)
        self.running = []
        self.environment = {**os.environ, "SMOL_THREADS": str(threads)}

    def server(self, server):
        folder = self.folder / str(len(self.running))
        folder.mkdir()
        process, addr = server.start(folder)
        self.running.append(process)
        return addr

    def nats_server(self):
        """Where it lets clients in."""
        return self.server(Server(NATS, [self.nats, "-a", "127.0.0.1", "-p", "{port}"]))

    def hub(self):
        """A NATS server, and where it lets leaf nodes in."""
        port = free_port()
        config = f"leafnodes {{{{ host: 127.0.0.1, port: {port} }}}}"
        self.server(Server(NATS, [self.nats, "-a", "127.0.0.1", "-p", "{port}", "-c", "{folder}/config"], config=config))
        return f"127.0.0.1:{port}"

    def kcpq_server(self, *backbone):
        command = [self.kcpq, "serve", "-l", "127.0.0.1:{port}", "--register", "none", *backbone]
        return self.server(Server(OFF, command, "the backbone is there" if backbone else "listening"))

    def start(self, command):
        self.running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                             env=self.environment))
        return self.running[-1]

    def bench(self, addr, *flags):
        return self.start([self.kcpq, "bench", "pubsub", "-s", addr, "--json", "--no-progress", "--allow-loss", *flags])

    def measure(self, way, work, seconds):
        """What the one who measures prints."""
        span, warmup = ["--duration", f"{seconds}s"], ["--warmup", f"{WARMUP}s"]
        if way == NATS:
            addr = self.nats_server()
            return self.start([self.rivals, "nats", addr, "--subs", "1", *work.load(), *span, *warmup])
        if way == OFF:
            return self.bench(self.kcpq_server(), *work.load(), *span, *warmup)
        backbone = ["--nats-leaf", self.hub()] if way in LEAFS else ["--nats", self.nats_server()]
        first = self.kcpq_server(*backbone)
        if way in (ON, LEAF):
            return self.bench(first, *work.load(), *span, *warmup)
        return self.bench(self.kcpq_server(*backbone), "--pub-server", first, *work.load(), *span, *warmup)

    def stop(self):
        for process in reversed(self.running):
            stop(process)


def measure(tools, way, work, seconds, threads):
    """One run's figures, or None, with the reason told."""
    with tempfile.TemporaryDirectory() as folder:
        # At a rate the driver knows better how many threads it wants.
        run = Run(*tools, folder, 1 if work.rate else threads)
        try:
            return report(run.measure(way, work, seconds), f"{way}, {work.name}", PATIENCE + 3 * seconds)
        finally:
            run.stop()


def rows(work):
    """The table's rows of a work: name, how a run's value is read, and whether less is better."""
    if work.rate:
        return [(f"{work.name}, {p} µs", lambda run, p=p: (run["latency_us"] or {}).get(p), True) for p in ("p50", "p99")]
    return [(work.name, lambda run: run["msgs_per_s"], False)]


def cell(runs, read):
    values = [value for run in runs if run and (value := read(run)) is not None]
    if not values:
        return None, "failed"
    median = statistics.median(values)
    lost = sum(run.get("lost") or 0 for run in runs if run)
    mark = f" (lost {lost:,})" if lost else ""
    mark += f" ({len(runs) - len(values)} of {len(runs)} failed)" if len(values) < len(runs) else ""
    return median, f"{median:,.0f}{mark}"


def table(works, results):
    head = ["work", *WAYS, "on NATS : by itself", "as leaf : by itself", "over NATS : nats-server", "over leafs : nats-server",
            "added over NATS", "added over leafs"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for work in works:
        for name, read, less in rows(work):
            cells = {way: cell(results[way, work.name], read) for way in WAYS}
            value = {way: cells[way][0] for way in WAYS}

            def ratio(ours, theirs):
                known = value[ours] and value[theirs]
                return f"{(value[theirs] / value[ours] if less else value[ours] / value[theirs]):.2f}" if known else ""

            def added(way):
                return f"{value[way] - value[OFF]:,.0f} µs" if less and value[way] and value[OFF] else ""

            ratios = [ratio(ON, OFF), ratio(LEAF, OFF), ratio(ACROSS, NATS), ratio(LEAF_ACROSS, NATS)]
            lines.append("| " + " | ".join([name, *(cells[way][1] for way in WAYS), *ratios, added(ACROSS), added(LEAF_ACROSS)]) + " |")
    return "\n".join(lines)


def main(args, target):
    nats = find("nats-server")
    if not nats:
        sys.exit("nats-server is not here: there is no backbone to measure")
    works = [work for work in WORKS if not args.only or args.only in work.name]
    tools = (str(target / "kcpq"), str(target / "rivals"), nats)
    results = {(way, work.name): [] for way in WAYS for work in works}
    for round_ in range(args.rounds):
        for work in works:
            # Each round begins with another one, so that nobody always comes after the same neighbour.
            for way in WAYS[round_ % len(WAYS):] + WAYS[:round_ % len(WAYS)]:
                tell(f"round {round_ + 1} of {args.rounds}: {work.name}: {way}")
                results[way, work.name].append(measure(tools, way, work, args.seconds, args.threads))
    return f"""# kcpq on a backbone

{datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, loopback, everything on this machine; release build; medians of
{args.rounds} alternating rounds of {args.seconds} s each; load average at the end {os.getloadavg()[0]:.1f}, this included.

{table(works, results)}

Ratios above 1 are in favour of the first one. "Added" is what a message takes longer from one kcpq server over NATS to
another one than within one. Command: `scripts/compare --backbone --rounds {args.rounds} --seconds {args.seconds}`.
"""
