"""The figures of devices.sh: one line per run, then median (worst) of each."""

import json
import pathlib
import re
import statistics
import sys


def run(path, nodes):
    """The figures of one run."""
    events = {}
    for line in path.read_text().splitlines():
        event = json.loads(line)
        events[event["event"]] = event
    opened = events["connected"]
    sessions = opened["connected"]
    grown = [m["resident_bytes_after"] - m["resident_bytes_before"] for m in opened["memory"]]
    figures = {
        "sessions": sessions,
        "failed": sum(opened["errors"].values()),
        "connects/s": opened["connects_per_second"],
        "connect p99 ms": opened["connect"]["p99_us"] / 1000,
        "bytes/session at nodes": sum(grown[:nodes]) / sessions,
        "bytes/session at gateways": sum(grown[nodes:]) / sessions,
    }
    if "updated" in events:
        updated = events["updated"]
        figures["updates/s"] = updated["accepted"] / updated["seconds"]
        figures["reached"] = updated["reached"] / max(1, updated["accepted"])
        figures["update to device p50 ms"] = updated["update_to_device"]["p50_us"] / 1000
        figures["update to device p99 ms"] = updated["update_to_device"]["p99_us"] / 1000
        figures["update to answer p99 ms"] = updated["answer"]["p99_us"] / 1000
        figures["lost"] = sum(updated["lost"].values())
    return figures


def main():
    nodes, directory = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    number = lambda path: int(re.search(r"[0-9]+", path.stem).group())
    runs = [run(path, nodes) for path in sorted(directory.glob("run-*.jsonl"), key=number)]
    for nth, figures in enumerate(runs, 1):
        print(f"run {nth}: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    print("median (worst):")
    better_when_more = {"sessions", "connects/s", "updates/s", "reached"}
    for name in runs[0]:
        values = [figures[name] for figures in runs]
        worst = min(values) if name in better_when_more else max(values)
        print(f"  {name}: {statistics.median(values):.2f} ({worst:.2f})")


main()
