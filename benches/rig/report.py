"""Tables in Markdown from the raw results."""

from statistics import median

from rig.fairness import MEANING as BESIDE
from rig.sets import FAIR, STORMS
from rig.targets import MEANING, NAMES, SPEAK_TLS

YARDSTICK = "relay"
TLS_YARDSTICK = "envoy-equal"
"""For TLS, which a relay of TCP does not speak."""
UNARY = {
    "W1": "unary 50x10, us/call",
    "W1t": "the same, no two heads alike, us/call",
    "W1b": "unary 1x100, us/call",
    "W5": "connect + 1 call, us",
    "G1": "unary 4x16, us/call",
}
BULK = {
    "W2": "down 1 MiB messages, s/GB",
    "W2x4": "the same, 4 connections, s/GB",
    "W2b": "down 64 KiB messages, s/GB",
    "W3": "up 32 KiB messages, s/GB",
    "W3m": "up 1 MiB messages, s/GB",
    "G2": "down 1 MiB messages, s/GB",
    "G3": "up 1 MiB messages, s/GB",
}
TLS = {
    "W7": "unary 50x10, us/call",
    "W7c": "connect + 1 call, us",
    "W7d": "down 1 MiB messages, s/GB",
    "W7u": "up 32 KiB messages, s/GB",
    "W7i": "idle connection, KiB",
}


class Results:
    """The results of all rounds, by target and workload."""

    def __init__(self, rows: list[dict]):
        self.rows = [row for row in rows if "failed" not in row]
        self.failed = {(row["target"], row["workload"]) for row in rows if "failed" in row}
        present = {row["target"] for row in rows}
        self.targets = [name for name in NAMES if name in present]

    def values(self, target: str, workload: str, figure) -> dict[int, float]:
        """One figure by round."""
        return {
            row["round"]: figure(row)
            for row in self.rows
            if (row["target"], row["workload"]) == (target, workload)
        }

    def ratio(self, target: str, workload: str, figure, base: str = YARDSTICK) -> float | None:
        """The median over the rounds of the figure divided by the yardstick's of that round."""
        ours, theirs = (self.values(name, workload, figure) for name in (target, base))
        ratios = [ours[n] / theirs[n] for n in ours.keys() & theirs.keys() if theirs[n]]
        return median(ratios) if ratios else None

    def cell(self, target: str, workload: str, figure, base: str = YARDSTICK) -> str:
        """`median (min..max) ratio`."""
        if (target, workload) in self.failed:
            return "FAILED"
        values = list(self.values(target, workload, figure).values())
        if not values:
            return ""
        spread = f" ({_short(min(values))}..{_short(max(values))})" if len(values) > 1 else ""
        ratio = self.ratio(target, workload, figure, base)
        tail = f" **{ratio:.2f}x**" if ratio is not None else ""
        return f"{_short(median(values))}{spread}{tail}"

    def ran(self, workload: str) -> bool:
        """Whether anybody ran it."""
        return any(row["workload"] == workload for row in self.rows)


def tables(results: Results) -> str:
    """All tables for which there are results."""
    kinds = (_cpu, _memory, _tls, _latency, _fairness, _storms, _throughput)
    parts = [part(results) for part in kinds]
    return "\n\n".join(part for part in parts if part)


def meaning(results: Results) -> str:
    """What the names of targets stand for."""
    return "".join(f"- `{name}`: {MEANING[name]}\n" for name in results.targets)


def _cpu(results: Results) -> str:
    titles = {name: f"{name} {title}" for name, title in (UNARY | BULK).items()}
    figures = {name: FIGURES[name] for name in titles if results.ran(name)}
    lead = "CPU of the proxy: median (min..max) and ratio to the TCP relay of the same rounds"
    targets = [name for name in results.targets if name != "direct"]
    return _table(lead, results, targets, figures, titles)


def _memory(results: Results) -> str:
    titles = {"W4": "W4 idle connection, KiB", "W8": "W8 peak with 32 slow readers, MiB"}
    figures = {name: FIGURES[name] for name in titles if results.ran(name)}
    lead = "Resident memory of the proxy (kernel buffers of sockets not counted)"
    targets = [name for name in results.targets if name != "direct"]
    return _table(lead, results, targets, figures, titles)


def _tls(results: Results) -> str:
    titles = {name: f"{name} {title}" for name, title in TLS.items()}
    figures = {name: FIGURES[name] for name in titles if results.ran(name)}
    lead = (
        "TLS 1.3, CPU and resident memory of the proxy: median (min..max) and ratio to"
        f" `{TLS_YARDSTICK}` in the same rounds"
    )
    targets = [name for name in results.targets if name in SPEAK_TLS]
    return _table(lead, results, targets, figures, titles, base=TLS_YARDSTICK)


def _latency(results: Results) -> str:
    if not results.ran("W6"):
        return ""
    head = ["target", "p50, us", "p50 added to direct, us", "p99, us", "p99.9, us", "CPU, us/call"]
    lines = []
    for target in results.targets:
        p50 = results.values(target, "W6", lambda row: row["latency"]["p50"])
        direct = results.values("direct", "W6", lambda row: row["latency"]["p50"])
        added = [p50[n] - direct[n] for n in p50.keys() & direct.keys()]
        cells = [_spread(p50.values()), f"{median(added):+.0f}" if added else ""]
        for name in ("p99", "p99_9"):
            tail = results.values(target, "W6", lambda row: row["latency"][name])
            cells.append(_spread(tail.values()))
        cpu = "" if target == "direct" else results.cell(target, "W6", _us_per_call)
        lines.append([target, *cells, cpu])
    return markdown("W6: latency at 500 calls a second, open loop", head, lines)


def _fairness(results: Results) -> str:
    head = ["beside", "target", "p50, ms", "p99, ms", "max, ms", "p99 straight to the driver, ms"]
    head += ["p99, times that", "attack, requests/s", "its connections a second"]
    lines = []
    for workload in FAIR:
        for target in (it for it in results.targets if (it, workload) in results.failed):
            lines.append([f"{workload} {BESIDE[workload]}", target, "FAILED"])
        for target in results.targets:
            if not results.values(target, workload, len):
                continue
            cells = [f"{workload} {BESIDE[workload]}", target]
            for name in ("p50", "p99", "max"):
                took = results.values(target, workload, lambda row: row["latency"][name] / 1e3)
                cells.append(_spread(took.values()))
            control = results.values(target, workload, lambda row: row["control"]["p99"] / 1e3)
            cells += [_spread(control.values()), _short(beside(results, target, workload))]
            for what in ("answers", "connections"):
                rate = results.values(target, workload, lambda row: _flooded(row, what))
                cells.append(_short(median(rate.values())) if workload.startswith("F1") else "")
            lines.append(cells)
    lead = (
        "Latency of calls one after another, beside others on the same worker: median (min..max) of"
        " the rounds. The attack is one connection at a time; its requests are those answered"
    )
    return markdown(lead, head, lines) if lines else ""


def beside(results: Results, target: str, workload: str) -> float | None:
    """p99 as a multiple of what the same calls took without a proxy at the same moment."""
    ratios = results.values(
        target, workload, lambda row: row["latency"]["p99"] / row["control"]["p99"]
    )
    return median(ratios.values()) if ratios else None


def _flooded(row: dict, what: str) -> float:
    return row["flood"][what] / row["flood"]["seconds"] if "flood" in row else 0.0


def _storms(results: Results) -> str:
    lines = []
    for workload in STORMS:
        way = "C1, clear text" if workload == "C1" else "C1s, TLS 1.3"
        for target in (it for it in results.targets if (it, workload) in results.failed):
            lines.append([way, target, "FAILED"])
        for target in results.targets:
            figures = [
                results.values(target, workload, lambda row: row["storm"][name]).values()
                for name in ("p50_ms", "p99_ms", "max_ms", "failed")
            ]
            if figures[0]:
                lines.append([way, target, *map(_spread, figures)])
    lead = "3,000 connections at once, from `connect()` to the server's SETTINGS"
    head = ["", "target", "p50, ms", "p99, ms", "max, ms", "without SETTINGS after 30 s"]
    return markdown(lead, head, lines) if lines else ""


def _throughput(results: Results) -> str:
    def calls(row: dict) -> float:
        return row["calls"] / row["seconds"]

    def megabytes(row: dict) -> float:
        return row["octets"] / row["seconds"] / 1e6

    figures = {name: calls for name in UNARY} | {name: megabytes for name in BULK}
    titles = {name: f"{name} calls/s" for name in UNARY} | {name: f"{name} MB/s" for name in BULK}
    figures = {name: figure for name, figure in figures.items() if results.ran(name)}
    lead = "Throughput and ratio to direct (load and stub driver share one core and bound it)"
    return _table(lead, results, results.targets, figures, titles, base="direct")


def _us_per_call(row: dict) -> float:
    return row["cpu_ns"] / 1e3 / row["calls"]


def _s_per_gb(row: dict) -> float:
    return row["cpu_ns"] / row["octets"]


def _kib_per_connection(row: dict) -> float:
    return (row["rss_after_kib"] - row["rss_before_kib"]) / row["connections"]


def _peak_mib(row: dict) -> float:
    return row["peak_kib"] / 1024


FIGURES = {
    **{name: _us_per_call for name in UNARY},
    **{name: _s_per_gb for name in BULK},
    **{name: _us_per_call for name in ("W7", "W7c")},
    **{name: _s_per_gb for name in ("W7d", "W7u")},
    **{name: _kib_per_connection for name in ("W4", "W7i")},
    "W8": _peak_mib,
}
"""What a workload is judged by."""


def _table(lead, results, targets, figures, titles, base=YARDSTICK) -> str:
    if not figures:
        return ""
    head = ["target", *(titles[name] for name in figures)]
    lines = [
        [target, *(results.cell(target, name, figure, base) for name, figure in figures.items())]
        for target in targets
    ]
    return markdown(lead, head, lines)


def markdown(lead: str, head: list[str], lines: list[list[str]]) -> str:
    """A table under a line that says what it holds."""
    rows = [head, ["---"] * len(head), *lines]
    return f"{lead}:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _spread(values) -> str:
    values = list(values)
    if not values:
        return ""
    spread = f" ({_short(min(values))}..{_short(max(values))})" if len(values) > 1 else ""
    return _short(median(values)) + spread


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
