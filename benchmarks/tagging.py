"""Tagging a long recording: how fast, in how much memory, and with which file on a phone.

    python benchmarks/tagging.py RUN [FOLDER] [--hours 2] [--rounds 3]

RUN is a finished run of birds-report: its network, that network exported to LiteRT in three precisions, and its
listener. FOLDER holds recordings in any layout, which are put one behind the other until so many hours are full;
without FOLDER, an aviary is synthesised. Writes report/field/tagging.json and a table.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf
from timing import OUT, arguments, table, write

from avianspec.data.layouts import load_recordings
from avianspec.field.inference import model_folder
from avianspec.learning.converters import PRECISIONS
from avianspec.learning.export import export_run
from avianspec.learning.interpreters import FileNetwork
from avianspec.sound.audio import AudioStream
from avianspec.sound.features import resampled
from avianspec.synthetic.aviary import make_aviary

SR = 22050
TAG = """
import json, sys, time
from avianspec.field.inference import load_identifier
from avianspec.field.detections import EventConfig
from avianspec.field.tag import tag_files
path, run = sys.argv[1:]
identifier, began = load_identifier(run), time.perf_counter()
made = next(tag_files([path], identifier, EventConfig(0.3)))
seconds = time.perf_counter() - began
most = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(dict(seconds=seconds, mb=most * 1024 / 1e6, events=len(made["events"]))))
"""


def long_recording(recordings, path, hours):
    "Recordings one behind the other, again and again, as 16-bit WAV of one channel."
    with sf.SoundFile(path, "w", SR, 1, "PCM_16") as f:
        left = round(hours * 3600 * SR)
        while left > 0:
            for one in recordings.path:
                stream = AudioStream(one)
                for y in resampled(stream.mono(), stream.sr, SR):
                    f.write(y[:left])
                    left -= len(y[:left])


def tagged(path, model):
    "Seconds, memory and events of one tagging, in a process of its own."
    done = subprocess.run([sys.executable, "-c", TAG, path, model], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise ValueError(f"{model} could not tag: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def decoded(path):
    "Seconds that decoding alone takes."
    began = time.perf_counter()
    for _ in AudioStream(path).blocks():
        pass
    return time.perf_counter() - began


def window_ms(file, n=400):
    "Milliseconds of a window in one thread."
    net = FileNetwork(file)
    net.predict_on_batch(x := np.zeros((n, 128, 128, 1), np.float32))
    began = time.perf_counter()
    net.predict_on_batch(x)
    return 1000 * (time.perf_counter() - began) / n


def small(x):
    "A number that is kept to six decimals."
    return f"{x:.2g}" if x else "below 0.000001"


def markdown(v):
    lines = [
        f"{v['hours']:g} hours of {v['data']} at 22,050 Hz, 16 bits, on {v['cores']} cores of {v['processor']}; "
        f"medians of {v['rounds']} rounds, loading not counted. Decoding alone: {v['decode']:,.0f} times real time "
        f"({v['date']}).",
        *table("model", "times real time", "of the time, decoding", "peak memory (MB)"),
        *(
            f"| {name} | {r['speed']:,.0f} | {100 * r['speed'] / v['decode']:.0f} % | {r['mb']:,.0f} |"
            for name, r in sorted(v["models"].items(), key=lambda row: row[1]["speed"])
        ),
        "",
        "The files of LiteRT, asked one window at a time in one thread, as a phone would:",
        *table("precision", "kB", "ms a window", "same first label", "largest difference of a probability"),
        *(
            f"| {name} | {r['bytes'] / 1000:,.0f} | {r['ms']:.2f} | {100 * r['same_first']:.1f} % "
            f"| {small(r['difference'])} |"
            for name, r in sorted(v["files"].items(), key=lambda row: -row[1]["bytes"])
        ),
        "",
        f"Windows of {v['windows']} held apart from those that int8 was fitted to.",
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    args = arguments(__doc__, "run", "data", hours=2.0, rounds=3)
    if not (Path(args.run) / "model.keras").exists():
        raise FileNotFoundError(f"{args.run} has no model.keras; give the folder of a finished run of birds-report.")
    with tempfile.TemporaryDirectory() as scratch:
        scratch, files = Path(scratch), {}
        for precision in PRECISIONS:
            file = scratch / f"{precision}.tflite"
            facts = export_run(args.run, file, precision, Path(args.run) / "model.keras", n=400, progress=False)
            found = facts["agreement"]
            files[precision] = dict(bytes=facts["n_bytes"], ms=window_ms(file), same_first=found["same_first"])
            files[precision] |= dict(difference=found["largest_difference"], n=found["n_windows"])
        if not args.data:
            make_aviary(scratch / "aviary", n_species=4, n_recordings=40, progress=False)
        long_recording(load_recordings(args.data or scratch / "aviary"), scratch / "long.wav", args.hours)
        models = {"v20, Keras": f"{args.run}/model.keras"}
        models |= {f"v20, LiteRT {p}": str(scratch / f"{p}.tflite") for p in PRECISIONS}
        if model_folder(args.run) != Path(args.run):
            models["ours, the listener beside it"] = str(model_folder(args.run))
        made = {name: [] for name in models}
        took = []
        for _ in range(args.rounds):
            took.append(decoded(scratch / "long.wav"))
            for name, model in models.items():
                made[name].append(tagged(str(scratch / "long.wav"), model))
    length = args.hours * 3600
    rows = {
        name: dict(speed=length / np.median([r["seconds"] for r in some]), mb=max(r["mb"] for r in some))
        for name, some in made.items()
    }
    facts = dict(data="recordings" if args.data else "synthesised birds", hours=args.hours, rounds=args.rounds)
    facts |= dict(decode=length / np.median(took), models=rows, files=files, windows=files["int8"]["n"])
    write("tagging", facts, markdown, OUT.parent / "field")
