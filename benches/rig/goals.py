"""What sconce promises, told next to what it does. A missed goal fails nothing: the next look at
the machine might have been luckier. It is there to be seen."""

from statistics import median

from rig import report
from rig.sets import FAIR

RELATIVE = {
    "own": {
        "W1": 1.6,
        "W1b": 2.0,
        "W2": 1.15,
        "W2x4": 1.15,
        "W2b": 1.15,
        "W3": 1.15,
        "W5": 1.2,
    },
    "h2": {"W1": 1.6, "W2": 1.15, "W3m": 1.15},
    "grpc": {"G1": 1.6, "G2": 1.15, "G3": 1.15},
}
"""CPU at most, as a multiple of the TCP relay's in the same rounds, by set of peers."""
TLS = {"W7": 1 / 9, "W7d": 1 / 1.7, "W7u": 1 / 1.2, "W7c": 0.85}
"""CPU at most, as a multiple of `envoy-equal`'s in the same rounds."""
IDLE_KIB = 6.0
IDLE_TLS_KIB = 14.0
SLOW_PEAK_MIB = 10
ADDED_LATENCY = 1.2
"""Added median latency at most, as a multiple of what the TCP relay adds."""
ATTACKED_P99_MS = 20
"""Of an honest client's calls beside an attack."""
STORM_P99_MS = 200
"""From `connect()` to SETTINGS, with so many connections at once, in clear text."""
BESIDE_BULK = 3
"""p99 of calls beside bulk transfers at most, as a multiple of what they take without the proxy."""


def table(of: dict[str, report.Results]) -> str:
    """Goals and figures by set of peers, for the workloads that sconce ran."""
    lines = []
    for name, results in of.items():
        for workload, most in RELATIVE[name].items():
            figure = report.FIGURES[workload]
            ratio = results.ratio("sconce", workload, figure)
            envoy = results.ratio("envoy-equal", workload, figure, base="sconce")
            lines.append(_line(workload, "CPU, times the relay's", ratio, most, envoy, name))
    if "own" in of:
        lines += _of_own(of["own"])
    lines = [line for line in lines if line]
    head = ["set", "workload", "figure", "sconce", "goal", "", "envoy-equal takes"]
    return report.markdown("sconce against its goals", head, lines) if lines else ""


def _of_own(results: report.Results) -> list:
    lines = []
    for workload, most in TLS.items():
        figure = report.FIGURES[workload]
        ratio = results.ratio("sconce", workload, figure, base="envoy-equal")
        envoy = results.ratio("envoy-equal", workload, figure, base="sconce")
        lines.append(_line(workload, "CPU over TLS, times envoy-equal's", ratio, most, envoy))
    for workload, what, most in (
        ("W4", "KiB an idle connection", IDLE_KIB),
        ("W7i", "KiB an idle connection over TLS", IDLE_TLS_KIB),
        ("W8", "MiB at the peak", SLOW_PEAK_MIB),
    ):
        figure = report.FIGURES[workload]
        values = results.values("sconce", workload, figure).values()
        envoy = results.ratio("envoy-equal", workload, figure, base="sconce")
        lines.append(_line(workload, what, median(values) if values else None, most, envoy))
    lines.append(_line("W6", "added p50, times the relay's", _added(results), ADDED_LATENCY, None))
    storm = {
        who: results.values(who, "C1", lambda row: row["storm"]["p99_ms"])
        for who in ("sconce", "envoy-equal")
    }
    ours, theirs = (median(it.values()) if it else None for it in storm.values())
    envoy = theirs / ours if ours and theirs else None
    lines.append(_line("C1", "p99 in ms of 3,000 connects", ours, STORM_P99_MS, envoy))
    for workload in FAIR:
        if workload.startswith("F1"):
            what, most = "p99 in ms beside an attack", ATTACKED_P99_MS
            p99 = {
                who: results.values(who, workload, lambda row: row["latency"]["p99"] / 1e3)
                for who in ("sconce", "envoy-equal")
            }
            ours, theirs = (median(it.values()) if it else None for it in p99.values())
        else:
            what, most = "p99 beside bulk, times that without a proxy", BESIDE_BULK
            ours, theirs = (
                report.beside(results, who, workload) for who in ("sconce", "envoy-equal")
            )
        lines.append(_line(workload, what, ours, most, theirs / ours if ours and theirs else None))
    return lines


def _line(workload: str, what: str, got, most: float, envoy, name="own") -> list[str] | None:
    if got is None:
        return None
    verdict = "met" if got <= most else "**missed**"
    times = f"{envoy:.1f}x as much" if envoy else ""
    return [name, workload, what, f"{got:.2f}", f"<= {most:.3g}", verdict, times]


def _added(results: report.Results) -> float | None:
    def p50(target: str) -> dict[int, float]:
        return results.values(target, "W6", lambda row: row["latency"]["p50"])

    direct, relay, sconce = p50("direct"), p50("relay"), p50("sconce")
    rounds = direct.keys() & relay.keys() & sconce.keys()
    ratios = [
        (sconce[n] - direct[n]) / (relay[n] - direct[n]) for n in rounds if relay[n] > direct[n]
    ]
    return median(ratios) if ratios else None
