"""What the benchmarks share: arguments, interleaved rounds, ratios, tables and files for the report.

Every way is timed in every round, so that a busy machine is busy for all of them.
"""

import argparse
import importlib.util
import itertools
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

from avianspec.files import write_json
from avianspec.report.command_line import told
from avianspec.scoring.comparison_table import label_tables

OUT = Path(__file__).resolve().parent.parent / "report" / "benchmarks"
HOLDS = dict(  # what the tables of each fragment hold
    accelerator=["the speed of training steps and their share of the ceiling of the device"],
    boxes=["how well loudness finds the band of calls, with 95 % intervals by recordist"],
    coverage=["how often 95 % intervals hold the truth, over all situations"],
    embeddings=["the speed of the outside network, in seconds of sound per second"],
    events=["the scores of both detectors on invented birds, with 95 % intervals by recordist"],
    generator=["the time that a batch takes, by each way to make it", "how long training waits for its batches"],
    images=["the time that a picture takes, by each way to make it"],
    listening=["the memory taken, by how much was heard"],
    mixtures=["the time that a hundred mixtures take, by number of threads"],
    open_set=[
        "how well each species is told apart when left out",
        "what is still named",
        "the other scores",
        "how many everyday sounds of each kind get a name",
    ],
    other_sounds=[
        "what a label for other sounds costs the birds, with 95 % intervals by recordist",
        "how many get the name of a species, with 95 % intervals by recordist or kind",
    ],
    preprocessing=["the speed from mp3 to features", "the speed of the spectral part alone"],
    shards=["the speed of reading samples, by each way"],
    soundscapes=["the scores of both detectors in a forest, with 95 % intervals by recording"],
    tagging=["the speed of tagging and the memory it takes", "what the files for a phone take, and how they agree"],
    waves=["the time that a batch of samples takes", "how long training waits for its batches"],
)


def arguments(doc, *places, **numbers):
    "Arguments of a script: places of data, each of which may be left out, and options with their defaults."
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in places:
        parser.add_argument(name, nargs="?", default="")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{default} where it is left out")
    args = parser.parse_args()
    for name, default in numbers.items():
        if (given := getattr(args, name)) < 0 or default and not given:
            parser.error(f"--{name} is a number above 0; got {given}")
    sys.excepthook = in_a_line
    return args


def in_a_line(kind, e, trace):
    "What has ended a benchmark; where its words are not ours, the traceback is in the log that the line names."
    if not isinstance(e, Exception):
        return sys.__excepthook__(kind, e, trace)
    print(f"{Path(sys.argv[0]).name}: {told(e)}", file=sys.stderr)


def optional(name):
    "A library, or None and a line that says what to install."
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed, so its rows are left out; pip install -e '.[bench]' installs it")
        return None


def needed(name, why):
    "Stop with one line where a library is not installed."
    if importlib.util.find_spec(name) is None:
        raise SystemExit(f"{why} needs {name}, which is not installed: pip install -e '.[bench]'")


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


def waiting(batches, model, steps):
    "Of each kind of batches: ms of a training step, ms of waiting for its batch, and their share; they take turns."
    spent = {name: [] for name in batches}
    model.train_on_batch(*next(iter(batches.values()))[0])
    for k, (name, kind) in itertools.product(range(steps), batches.items()):
        began = time.perf_counter()
        x, y = kind[k % max(1, len(kind) - 1)]
        got = time.perf_counter()
        model.train_on_batch(x, y)
        spent[name].append((got - began, time.perf_counter() - got))
    medians = {name: np.median(pairs, axis=0) for name, pairs in spent.items()}
    return {n: dict(wait_ms=1000 * w, step_ms=1000 * s, share=w / (w + s)) for n, (w, s) in medians.items()}


def fastest_first(rows):
    "Rows of a summary, the fastest way first."
    return sorted(rows.items(), key=lambda row: -row[1]["speed"])


def ratio(r, digits=1):
    "A ratio with its lowest and highest, as text."
    middle, low, high = (f"{r[k]:,.{digits}f}" for k in ("ratio", "low", "high"))
    return f"{middle} ({low} to {high})"


def table(*columns):
    "First lines of a Markdown table; the first column holds words, the others numbers."
    return ["", f"| {' | '.join(columns)} |", "|---|" + "--:|" * (len(columns) - 1)]


def batch_lines(rows, batch, against):
    "Table of ways to make batches."
    lines = table("way", "ms a batch", "windows/s", f"ratio to {against}")
    for name, r in fastest_first(rows):
        lines.append(f"| {name} | {1000 * batch / r['speed']:,.2f} | {r['speed']:,.0f} | {ratio(r)} |")
    return lines


def training_lines(rows, what):
    "Table of how long training waits for its batches."
    lines = table(what, "ms a step", "ms waiting for its batch", "share of the time")
    for name, r in rows.items():
        lines.append(f"| {name.replace('_', ' ')} | {r['step_ms']:,.0f} | {r['wait_ms']:,.2f} | {r['share']:.2%} |")
    return lines


def processor():
    "Name of the processor's model, where the system tells."
    try:
        return next(
            line.split(":")[1].strip()
            for line in open("/proc/cpuinfo", encoding="utf-8")
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def write(name, value, markdown, folder=OUT):
    "Write a benchmark's JSON and the table made from it, for the report."
    value = dict(
        value,
        processor=processor(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        date=time.strftime("%Y-%m-%d"),
    )
    write_json(folder / f"{name}.json", value)
    write_page(name, markdown(json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))), folder)


def write_page(name, text, folder=OUT):
    "Write and print a fragment of a page, every table with its caption and label."
    text = label_tables(text, f"{folder.name}-{name}", HOLDS.get(name, [name]))
    (folder / f"_{name}.md").write_text(text, encoding="utf-8")
    print(text)
