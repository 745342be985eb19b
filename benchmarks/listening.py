"""Listening for hours: the memory of `avianspec listen` while a long sound comes through a pipe, faster than real time.

    nice python benchmarks/listening.py [RUN] [--hours 3] [--step 1] [--points 6]

RUN is a run folder or a file of a model (.tflite is quickest); without it a small network is trained and exported.
What is heard are the small network's own recordings, again and again;
events, clips and tables by the minute are written all the while. Writes report/field/listening.json and a table.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import OUT, arguments, table, write

from avianspec.learning.dataset import open_run
from avianspec.learning.export import export_run
from avianspec.learning.training import demo_model_run
from avianspec.sound.audio import AudioStream
from avianspec.sound.features import resampled

SR, FOLDER = 22050, OUT.parent / "field"
LISTEN = "import sys; from avianspec.cli import main; sys.exit(main(sys.argv[1:]))"


def minute(pieces, k):
    "A minute of recordings, one behind the other, in an order of its own."
    rng, y = np.random.default_rng(k), np.zeros(0)
    while len(y) < 60 * SR:
        y = np.concatenate([y, pieces[rng.integers(len(pieces))]])
    return (32767 * np.clip(y[: 60 * SR], -1, 1)).astype("<i2").tobytes()


def resident_mb(pid):
    "Memory that a process holds, and the most that it has held, MB."
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return [int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")]


def listened(model, pieces, hours, step, points, folder):
    "Memory after each part of the sound, and how long it all took."
    words = ["-", "--rate", str(SR), "--run", str(model), "--output", str(folder), "--step", str(step), "--clips"]
    going = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LISTEN,
            "listen",
            *words,
            "--threshold",
            "0.12",
            "--top",
            "1",
            "--gap",
            "2",
            "--quiet",
            "--parquet",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding=None,
    )
    began, rows, total = time.perf_counter(), [], round(60 * hours)
    marks = {max(1, round(total * k / points)) for k in range(1, points + 1)} | {min(2, total)}
    for k in range(1, total + 1):
        going.stdin.write(minute(pieces, k))  # waits while the listener is more than a minute behind
        if k in marks:
            now, most = resident_mb(going.pid)
            rows.append(dict(minutes=k, mb=now, most_mb=most))
            print(f"{k} min: {now:.0f} MB", flush=True)
    going.stdin.close()
    said = going.stdout.read().decode()
    if going.wait():
        raise ValueError(f"The listener ended with {going.returncode}: {said}")
    return dict(rows=rows, took_s=time.perf_counter() - began, said=said.splitlines()[0].split(", in ")[0])


def markdown(v):
    "The table of the page."
    lines = table("sound heard (min)", "memory (MB)", "most so far (MB)")
    lines += [f"| {r['minutes']} | {r['mb']:.0f} | {r['most_mb']:.0f} |" for r in v["rows"]]
    speed = 60 * v["rows"][-1]["minutes"] / v["took_s"]
    text = f"{v['model']}, an answer every {v['step']:g} s; {v['said']}, {speed:.0f} x real time ({v['date']})."
    return "\n".join([*lines, "", text, ""])


if __name__ == "__main__":
    args = arguments(__doc__, "run", hours=3.0, step=1.0, points=6)
    with tempfile.TemporaryDirectory() as scratch:
        model = args.run or Path(scratch) / "small.tflite"
        if not args.run:
            export_run(demo_model_run(), model, progress=False)
        streams = [AudioStream(path) for path in open_run(demo_model_run()).items.path]
        pieces = [np.concatenate(list(resampled(s.mono(), s.sr, SR))) for s in streams]
        kept = listened(model, pieces, args.hours, args.step, args.points, Path(scratch) / "heard")
    kept |= dict(model=Path(model).name, step=args.step)
    write("listening", kept, markdown, FOLDER)
