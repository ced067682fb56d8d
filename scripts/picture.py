"""Latency under loss as a picture (SVG): a panel for each work, a line for each peer, medians and the worst of the seeds."""

import math
import re
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 920, 440, 64, 66, 92, 60
COLOURS = ["#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#555555"]
TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]


def latency_under_loss(works, names):
    """`works`: by "5 % loss, 200 B at 50 Hz" and peer the sorted p99 of all seeds, as multiples of the floor.

    `names`: what the peers are called, in the order in which they are shown.
    """
    panels = {}
    for name, runs in works.items():
        loss, work = re.fullmatch(r"(\d+) % loss, (.*)", name).groups()
        for peer, run in runs.items():
            if run["p99"]:
                point = int(loss), run["p99"][len(run["p99"]) // 2], run["p99"][-1]
                panels.setdefault(work, {}).setdefault(peer, []).append(point)
    peers = [peer for peer in names if any(peer in panel for panel in panels.values())]
    points = [point for panel in panels.values() for line in panel.values() for point in line]
    losses = sorted({loss for loss, _, _ in points})
    top = next((tick for tick in TICKS if tick >= max(worst for *_, worst in points)), TICKS[-1])
    wide = (WIDTH - LEFT - GAP * len(panels)) / len(panels)
    high = HEIGHT - TOP - BOTTOM

    def y(value):
        return TOP + high * (1 - math.log(max(value, 1)) / math.log(max(top, 2)))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
             text(LEFT, 24, "p99 latency under loss, as a multiple of the floor (logarithmic)", size=16),
             text(LEFT, 43, "lines: median of the seeds; whiskers: the worst of them", colour="#555")]
    for index, (work, panel) in enumerate(panels.items()):
        left = LEFT + index * (wide + GAP)

        def x(loss):
            return left + wide * (losses.index(loss) + 0.5) / len(losses)

        parts.append(text(left + wide / 2, TOP - 6, work, anchor="middle"))
        for tick in [tick for tick in TICKS if tick <= top]:
            parts.append(f'<line x1="{left:.0f}" x2="{left + wide:.0f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#ddd"/>')
            parts.append(text(left - 8, y(tick) + 4, f"{tick}", anchor="end", colour="#555"))
        for loss in losses:
            parts.append(text(x(loss), TOP + high + 18, f"{loss} % each way", anchor="middle", colour="#555"))
        for number, peer in enumerate(peers):
            colour = COLOURS[number % len(COLOURS)]
            # Beside each other, so that whiskers do not hide each other.
            at = [(x(loss) + 7 * (number - (len(peers) - 1) / 2), median, worst) for loss, median, worst in
                  sorted(panel.get(peer, []))]
            path = " ".join(f"{where:.1f},{y(median):.1f}" for where, median, _ in at)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            for where, median, worst in at:
                parts.append(f'<line x1="{where:.1f}" x2="{where:.1f}" y1="{y(median):.1f}" y2="{y(worst):.1f}" stroke="{colour}"/>')
                parts.append(f'<circle cx="{where:.1f}" cy="{y(median):.1f}" r="3.5" fill="{colour}"/>')
    for number, peer in enumerate(peers):
        left = LEFT + number * (WIDTH - LEFT) / len(peers)
        parts.append(f'<circle cx="{left + 5:.0f}" cy="{HEIGHT - 30}" r="5" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(text(left + 16, HEIGHT - 26, names[peer]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def text(x, y, words, anchor="start", colour="#111", size=13):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">{escape(words)}</text>'
