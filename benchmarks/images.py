"""From clips of music to pictures: against the author's way, which draws, saves, opens and resizes a figure for each.

    python benchmarks/images.py [FOLDER] [--tracks 1000] [--sample 4] [--rounds 7]

FOLDER lies in GTZAN's layout; its tracks are repeated and cut to 30 s until there are as many as asked for. Without
FOLDER, a band is synthesised. Writes report/benchmarks/images.json and a table. Beside the time by the clock stands
that of the processor, which other work on the machine hardly changes: of all threads of avianspec's ways, of the one
thread that draws of the author's (threads of its libraries that wait for work would count against it).
"""

import io
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import librosa
import matplotlib
import numpy as np
import soundfile as sf
from PIL import Image
from timing import arguments, fastest_first, interleaved, ratio, summary, table, write

from avianspec.data.layouts import load_layout
from avianspec.sound.pictures import ImageConfig
from avianspec.stores.pictures import build_images
from avianspec.synthetic.band import SR, STYLES, make_track

CFG, SECONDS = ImageConfig(), 30
CLIPS = int(SECONDS // CFG.clip_s)  # of a track


def sounds(data, n_tracks):
    "Class, number and samples of many tracks of 30 s."
    if not data:
        for k in range(n_tracks):
            yield (
                STYLES[k % len(STYLES)].name,
                k // len(STYLES),
                make_track(k % len(STYLES), k // len(STYLES), SECONDS)[0],
            )
        return
    tracks = load_layout(data)
    for k in range(n_tracks):  # another cut of a track each time its turn comes again
        row = tracks.iloc[k % len(tracks)]
        y = librosa.load(row.path, sr=SR)[0]
        yield (
            row.label,
            k // len(tracks) * 100 + int(row.recording_id.rsplit(".", 1)[1]),
            np.resize(np.roll(y, -997 * (k // len(tracks))), SECONDS * SR),
        )


def write_corpus(data, n_tracks, folder):
    "Tracks as GTZAN's: 22,050 Hz, mono, 16-bit WAV."
    for name, number, y in sounds(data, n_tracks):
        (folder / "genres" / name).mkdir(parents=True, exist_ok=True)
        sf.write(folder / "genres" / name / f"{name}.{number:05d}.wav", y, SR, subtype="PCM_16")
    return load_layout(folder)


def drawn(path, k):
    "The author's way, one clip: load, transform, draw, save, open, resize."
    import matplotlib.pyplot as plt

    y, sr = librosa.load(path, offset=k * CFG.clip_s, duration=CFG.clip_s)
    db = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr), ref=np.max)
    fig = plt.figure(figsize=(CFG.width / 72, CFG.height / 72), dpi=72)
    ax = fig.add_axes([0, 0, 1, 1])
    ax.axis("off")
    librosa.display.specshow(db, sr=sr, cmap=CFG.colour_map, ax=ax)
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=72)
    plt.close(fig)
    return np.asarray(Image.open(png).convert("RGB").resize((CFG.size, CFG.size), Image.Resampling.BICUBIC))


def looked_up(path, k):
    "The same libraries without a figure, one clip."
    y, sr = librosa.load(path, offset=k * CFG.clip_s, duration=CFG.clip_s)
    db = librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=sr), ref=np.max)
    rgb = matplotlib.colormaps[CFG.colour_map](matplotlib.colors.Normalize()(db), bytes=True)[::-1, :, :3]
    figure = Image.fromarray(np.ascontiguousarray(rgb)).resize((CFG.width, CFG.height), Image.Resampling.NEAREST)
    return np.asarray(figure.resize((CFG.size, CFG.size), Image.Resampling.BICUBIC))


def off(a, b):
    "Largest difference of the three colours, per pixel."
    return np.abs(a.astype(int) - b.astype(int)).max(axis=-1)


def on_clock(way, clock, spent):
    "A way whose seconds by another clock are kept, too."

    def timed():
        began = clock()
        way()
        spent.append(clock() - began)

    return timed


def markdown(v):
    rounds = v["ways"]["avianspec, all"]["rounds"]
    lines = [
        f"Clips of 3 s to pictures of 128 × 128 × 3 on {v['cores']} cores of {v['processor']}; {v['data']} "
        f"as 16-bit WAV; {rounds} interleaved rounds, medians ({v['date']}). "
        "The processor's time is that of all threads of avianspec, and of the thread that draws in the author's way.",
        *table(
            "way",
            "clips",
            "ms a clip",
            "ratio to the author's way",
            "processor, ms a clip",
            "ratio by processor",
            "10,000 clips take",
        ),
    ]
    for name, r in fastest_first(v["ways"]):
        took = 10_000 / r["speed"]
        took = f"{took:.1f} s" if took < 100 else f"{took / 60:.1f} min"
        known = v["processor_time"].get(name)
        cpu = f"{1000 / known['speed']:.2f} | {ratio(known)}" if known else "| "
        lines.append(f"| {name} | {v['clips'][name]:,} | {1000 / r['speed']:.2f} | {ratio(r)} | {cpu} | {took} |")
    equal = f"Of the pixels of the sample, {v['equal']:.3%} equal those of the drawn figures"
    return "\n".join([*lines, "", f"{equal}, and {v['within_2']:.3%} lie within two grey levels.", ""])


if __name__ == "__main__":
    args = arguments(__doc__, "data", tracks=1000, sample=4, rounds=7)
    matplotlib.use("agg")
    import librosa.display

    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(2) as two:
        scratch = Path(scratch)
        corpus = write_corpus(args.data, args.tracks, scratch / "music")
        sample = corpus.iloc[:: len(corpus) // args.sample][: args.sample].reset_index(drop=True)
        paths, numbers = zip(*[(path, k) for path in sample.path for k in range(CLIPS)], strict=True)

        def build(some, jobs=2):
            return build_images(some, CFG, scratch / "store", jobs=jobs, progress=False)

        ways = {
            "the author's way": lambda: list(map(drawn, paths, numbers)),
            "the author's way, two processes": lambda: list(two.map(drawn, paths, numbers, chunksize=5)),
            "the same libraries, no figure": lambda: list(map(looked_up, paths, numbers)),
            "avianspec, sample": lambda: build(sample),
            "avianspec, all, one thread": lambda: build(corpus, jobs=1),
            "avianspec, all": lambda: build(corpus),
        }
        cpu = {name: [] for name in ways if "processes" not in name}
        for name, spent in cpu.items():
            clock = time.process_time if "avianspec" in name else time.thread_time
            ways[name] = on_clock(ways[name], clock, spent)
        took = interleaved(ways, args.rounds, clean=lambda: shutil.rmtree(scratch / "store", ignore_errors=True))
        apart = off(build(sample).images, np.stack(list(map(drawn, paths, numbers))))
    clips = {name: len(corpus) * CLIPS if "all" in name else len(paths) for name in ways}

    def each(seconds):
        "Summary of the seconds that a clip takes."
        return summary({n: [s / clips[n] for s in some] for n, some in seconds.items()}, 1, "the author's way")

    cpu = {name: spent[1 : args.rounds + 1] for name, spent in cpu.items()}  # the first round does not count
    source = f"{len(corpus):,} tracks of {SECONDS} s " + (
        "cut from recordings of instruments"
        if "instruments" in args.data
        else "cut from recordings"
        if args.data
        else "of the synthesised band"
    )
    write(
        "images",
        dict(
            data=source,
            clips=clips,
            ways=each(took),
            processor_time=each(cpu),
            equal=float((apart == 0).mean()),
            within_2=float((apart <= 2).mean()),
        ),
        markdown,
    )
