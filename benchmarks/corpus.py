"""A corpus of the size and lengths of the 2020 study: 2,730 mp3s, about 20 hours; and a recording of twelve hours.

    python benchmarks/corpus.py INDEX_CSV FOLDER_OF_MP3S [--jobs 2]
    python benchmarks/corpus.py --hours 12

The first joins frames of real mp3s to files of the lengths in the index (a column of seconds) and times build_store on
them once they are in the page cache. The second prints the peak memory of one long recording.
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
from timing import arguments, write

from avianspec.sound.features import FeatureConfig, extract_into
from avianspec.stores.preprocessing import build_store


def frames_of(path):
    "Bytes of an mp3's frames, without tags and without the first frame (which states the length), and bytes per second."
    data, info = path.read_bytes(), sf.info(path)
    start = sum((b & 127) << 7 * k for k, b in enumerate(data[9:5:-1])) + 10 if data[:3] == b"ID3" else 0
    sync = data.find(data[start : start + 2], start + 2)
    return data[sync:], (len(data) - start) / info.duration, data[start : start + 2]


def make_corpus(lengths_s, sources, folder):
    "One mp3 for each length: frames of the sources in turn, from another place each time; nothing is encoded anew."
    folder.mkdir(parents=True, exist_ok=True)
    sounds, paths = [frames_of(p) for p in sources], []
    for k, seconds in enumerate(lengths_s):
        data, rate, sync = sounds[k % len(sounds)]
        turned = data[(cut := max(0, data.find(sync, 7919 * k % len(data)))) :] + data[:cut]
        path, n = folder / f"{k:04d}.mp3", int(max(seconds, 0.5) * rate)
        path.write_bytes((turned * (1 + n // len(turned)))[:n])
        paths.append(path)
    return paths


def long_recording(hours):
    "Peak memory of the features of one long recording, in MB, and how long they took."
    with tempfile.TemporaryDirectory() as scratch:
        path, block = (
            Path(scratch) / "long.flac",
            (1000 * np.random.default_rng(0).standard_normal((44100 * 60, 1))).astype(np.int16),
        )
        with sf.SoundFile(path, "w", 44100, 1, "PCM_16", format="FLAC") as f:
            for _ in range(round(hours * 60)):
                f.write(block)
        began = time.perf_counter()
        with open(path.with_suffix(".mel"), "w+b") as mel, open(path.with_suffix(".mfcc"), "w+b") as mfcc:
            extract_into(path, FeatureConfig(), mel, mfcc)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter() - began


def long_markdown(v):
    speed = v["hours"] * 3600 / v["seconds"]
    memory = f"One recording of {v['hours']:.0f} hours: {v['peak_mb']:.0f} MB at the most"
    return f"{memory}, {v['seconds']:.0f} s ({speed:.0f} × real time).\n"


def corpus_markdown(v):
    speed = v["hours"] * 3600 / v["seconds"]
    what = f"{v['recordings']:,} mp3s with the lengths of the 2020 study's recordings, {v['hours']:.1f} hours"
    how = f"{v['seconds']:.0f} s with {v['jobs']} threads on {v['processor']}, {speed:,.0f} × real time, store written"
    return f"{what}, in the page cache: {how}; {v['set_aside']} set aside.\n"


if __name__ == "__main__":
    args = arguments(__doc__, "index", "mp3s", hours=0.0, jobs=2)
    if args.hours:
        peak, seconds = long_recording(args.hours)
        write("long_recording", dict(hours=args.hours, peak_mb=peak, seconds=seconds), long_markdown)
        raise SystemExit
    if not args.mp3s:
        raise SystemExit("Give a CSV with a column of lengths in seconds and a folder of mp3s, or --hours; see --help.")
    index = pd.read_csv(args.index)
    column = next(c for c in index.columns if "duration" in c.lower() or "length" in c.lower())
    lengths = pd.to_numeric(index[column], errors="coerce").dropna().to_numpy()
    sources = [p for p in sorted(Path(args.mp3s).rglob("*.mp3")) if sf.info(p).samplerate == 44100][:24]
    with tempfile.TemporaryDirectory() as scratch:
        paths = make_corpus(lengths, sources, Path(scratch) / "corpus")
        for p in paths:
            p.read_bytes()  # into the page cache
        table = pd.DataFrame({"recording_id": [p.stem for p in paths], "path": [str(p) for p in paths]})
        began = time.perf_counter()
        store = build_store(table, FeatureConfig(), Path(scratch) / "store", args.jobs)
        seconds = time.perf_counter() - began
        hours = float(store.index.duration_s.sum() / 3600)
    write(
        "corpus",
        dict(recordings=len(paths), set_aside=len(store.quarantine), hours=hours, seconds=seconds, jobs=args.jobs),
        corpus_markdown,
    )
