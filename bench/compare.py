"""Runs variants in turn (A B C A B C …), so that a change of the machine's speed meets all of them alike."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to do the same thing. `run` returns seconds, or None to be timed from outside."""

    name: str
    run: Callable[[], float | None]


def measure(
    variants: Sequence[Variant], *, rounds: int, warm_up: int = 2, pause_s: float = 0.0
) -> dict[str, list[float]]:
    """Seconds of each counted run by variant. A variant that fails is left out, with its reason."""
    results: dict[str, list[float]] = {variant.name: [] for variant in variants}
    broken: set[str] = set()
    for number in range(rounds + warm_up):
        for variant in variants:
            if variant.name in broken:
                continue
            time.sleep(pause_s)
            started = time.perf_counter()
            try:
                seconds = variant.run()
            except (OSError, RuntimeError) as exc:
                broken.add(variant.name)
                sys.stderr.write(f"{variant.name}: left out: {exc}\n")
                continue
            if seconds is None:
                seconds = time.perf_counter() - started
            if number >= warm_up:
                results[variant.name].append(seconds)
    return {name: times for name, times in results.items() if times and name not in broken}


def format_table(title: str, results: dict[str, list[float]], *, base: str) -> str:
    """Markdown: median, minimum and 95th percentile in milliseconds, and the ratio of medians to `base`."""
    lines = [
        f"### {title}",
        "",
        f"| | median ms | min | p95 | ratio to {base} |",
        "|---|---|---|---|---|",
    ]
    reference = statistics.median(results[base]) if base in results else 0.0
    for name, times in results.items():
        ordered = sorted(times)
        middle = statistics.median(ordered)
        late = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
        ratio = f"{middle / reference:.2f}" if reference else "-"
        lines.append(
            f"| {name} | {middle * 1e3:.1f} | {ordered[0] * 1e3:.1f} | {late * 1e3:.1f} | {ratio} |"
        )
    return "\n".join([*lines, ""])
