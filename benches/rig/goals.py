"""What sconce promises, told next to what it does. A missed goal fails nothing: the next look at
the machine might have been luckier. It is there to be seen."""

from statistics import median

from rig import report

RELATIVE = {"W1": 1.6, "W1b": 2.0, "W2": 1.15, "W2x4": 1.15, "W2b": 1.15, "W3": 1.15, "W5": 1.2}
"""CPU at most, as a multiple of the TCP relay's in the same rounds."""
TLS = {"W7": 1 / 9, "W7d": 1 / 1.7, "W7u": 1 / 1.2, "W7c": 0.85}
"""CPU at most, as a multiple of `envoy-equal`'s in the same rounds."""
IDLE_KIB = 6.0
IDLE_TLS_KIB = 14.0
SLOW_PEAK_MIB = 10
ADDED_LATENCY = 1.2
"""Added median latency at most, as a multiple of what the TCP relay adds."""


def table(results: report.Results) -> str:
    """Goals and figures, for the workloads that sconce ran."""
    lines = []
    for workload, most in RELATIVE.items():
        figure = report.FIGURES[workload]
        ratio = results.ratio("sconce", workload, figure)
        envoy = results.ratio("envoy-equal", workload, figure, base="sconce")
        lines.append(_line(workload, "CPU, times the relay's", ratio, most, envoy))
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
    lines = [line for line in lines if line]
    head = ["workload", "figure", "sconce", "goal", "", "envoy-equal takes"]
    return report.markdown("sconce against its goals", head, lines) if lines else ""


def _line(workload: str, what: str, got, most: float, envoy) -> list[str] | None:
    if got is None:
        return None
    verdict = "met" if got <= most else "**missed**"
    times = f"{envoy:.1f}x as much" if envoy else ""
    return [workload, what, f"{got:.2f}", f"<= {most:.3g}", verdict, times]


def _added(results: report.Results) -> float | None:
    def p50(target: str) -> dict[int, float]:
        return results.values(target, "W6", lambda row: row["latency"]["p50"])

    direct, relay, sconce = p50("direct"), p50("relay"), p50("sconce")
    rounds = direct.keys() & relay.keys() & sconce.keys()
    ratios = [
        (sconce[n] - direct[n]) / (relay[n] - direct[n]) for n in rounds if relay[n] > direct[n]
    ]
    return median(ratios) if ratios else None
