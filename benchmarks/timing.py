"""Interleaved timing: every way in every round, so that a busy machine is busy for all of them."""

import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from avianspec.files import write_json

OUT = Path(__file__).resolve().parent.parent / "report" / "benchmarks"


def interleaved(ways, rounds, clean=lambda: None):
    "Seconds of each way (name to function) in each round, after one round that does not count: name to list."
    took = {name: [] for name in ways}
    for k in range(rounds + 1):
        for name, way in ways.items():
            clean()
            began = time.perf_counter()
            way()
            if k:
                took[name].append(time.perf_counter() - began)
    return took


def summary(took, work, reference):
    "Per way: median of `work` per second, and the ratio to the reference round by round (median, lowest, highest)."
    rows = {}
    for name, seconds in took.items():
        ratio = np.array(took[reference]) / np.array(seconds)
        rows[name] = dict(
            speed=work / float(np.median(seconds)),
            ratio=float(np.median(ratio)),
            low=float(ratio.min()),
            high=float(ratio.max()),
            rounds=len(seconds),
        )
    return rows


def fastest_first(rows):
    "Rows of a summary, the fastest way first."
    return sorted(rows.items(), key=lambda row: -row[1]["speed"])


def processor():
    "Name of the processor's model, where the system tells."
    try:
        return next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def write(name, value, markdown):
    "Write a benchmark's JSON and the table made from it, for the report."
    value = dict(
        value,
        processor=processor(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        date=time.strftime("%Y-%m-%d"),
    )
    write_json(OUT / f"{name}.json", value)
    (OUT / f"_{name}.md").write_text(markdown(json.loads((OUT / f"{name}.json").read_text())), encoding="utf-8")
    print(markdown(value))
