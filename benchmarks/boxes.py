"""How high: the bands that are found within detections, against the boxes of invented birds whose truth is known.

    nice python benchmarks/boxes.py [--species 12] [--recordings 60] [--window 3]

The detections are what a perfect model would say: windows of that many seconds in which a bird really calls, and the
calls themselves. Settings are chosen on one aviary and tested on another. Writes report/field/boxes.json and a table.
"""

import itertools

import numpy as np
import pandas as pd
from timing import OUT, arguments, table, write

from avianspec.field.boxes import CONTEXT_S, PIECE_S, event_bands
from avianspec.files import cache_folder
from avianspec.scoring.intervals import interval, interval_text, paired_interval
from avianspec.sound.regions import RegionConfig
from avianspec.synthetic.aviary import make_aviary

FOLDER, CHOSEN_ON, TESTED = OUT.parent / "field", 0, 2  # seeds of the aviaries
SETTINGS = [RegionConfig(t, band_share=s) for t, s in itertools.product((2.5, 3.5, 4.5), (0.8, 0.9, 0.95))]


def aviary(species, n, seed):
    "Recordings of an aviary, and its truth by recording."
    folder = cache_folder() / "boxes" / f"aviary-{species}-{n}-{seed}"
    make_aviary(folder, species, n, seed, progress=False)
    listed = pd.read_csv(folder / "recordings.csv", keep_default_na=False)
    truth = pd.read_csv(folder / "truth.csv").rename(columns={"onset_s": "start_s", "offset_s": "end_s"})
    marks = dict(list(truth.groupby("recording_id")))
    return [(folder / r.file, r.rec, marks[r.id].reset_index(drop=True)) for r in listed.itertuples() if r.id in marks]


def detected(marks, window_s):
    "What a perfect model would say: each call (0), or each window with a bird in it; and the band of its calls then."
    if not window_s:
        found = marks[["start_s", "end_s"]].copy()
        return found.assign(channel=0, low=marks.low_hz, high=marks.high_hz)
    rows = []
    for _, mine in marks.groupby("species"):
        for k in range(int(marks.end_s.max() // window_s) + 1):
            a, b = k * window_s, (k + 1) * window_s
            there = mine[(mine.start_s < b - 0.1) & (mine.end_s > a + 0.1)]
            if len(there):
                rows.append((a, b, 0, there.low_hz.min(), there.high_hz.max()))
    return pd.DataFrame(rows, columns=["start_s", "end_s", "channel", "low", "high"])


def overlap(low, high, other_low, other_high):
    "Of two bands: what both hold as a share of what either holds, and the share of the second that the first covers."
    both = np.maximum(0, np.minimum(high, other_high) - np.maximum(low, other_low))
    either = np.maximum(high, other_high) - np.minimum(low, other_low)
    return both / either, both / (other_high - other_low)


def bands(heard, window_s, cfg):
    "A row for each detection: recordist, the band found (NaN: none) and the true one."
    rows = []
    for path, recordist, marks in heard:
        asked = detected(marks, window_s)
        found = event_bands(path, asked, cfg)
        rows.append(asked.assign(recordist=recordist, found_low=found[:, 0], found_high=found[:, 1]))
    return pd.concat(rows, ignore_index=True)


def alike(rows, low, high):
    "Intersection over union and share covered, 0 where no band was found."
    return [np.nan_to_num(x) for x in overlap(low, high, rows.low.to_numpy(), rows.high.to_numpy())]


def score_of(values):
    "A mean as `interval` takes it."
    return lambda weights: (weights @ values) / weights.sum(axis=1)


def mean(values, rows):
    "A mean with its interval over recordists."
    made = interval(score_of(values), rows.recordist)
    return dict(value=made.value, interval=[made.low, made.high], remark=made.remark)


def difference(first, second, rows):
    "By how much the second mean is higher, with its interval over recordists."
    made = paired_interval(score_of(first), score_of(second), rows.recordist)
    return dict(value=made.value, interval=[made.low, made.high], remark=made.remark)


def scored(near, far, window_s):
    "Bands found with the settings that were best on the near aviary, beside one band for all, which it has, too."
    tried = {cfg: bands(near, window_s, cfg) for cfg in SETTINGS}
    score = {cfg: alike(rows, rows.found_low, rows.found_high)[0].mean() for cfg, rows in tried.items()}
    cfg, known = max(score, key=score.get), next(iter(tried.values()))
    rows, one = bands(far, window_s, cfg), (known.low.median(), known.high.median())
    found, flat = alike(rows, rows.found_low, rows.found_high), alike(rows, *one)
    kept = dict(detections=len(rows), without=float(rows.found_low.isna().mean()), recordists=rows.recordist.nunique())
    kept |= dict(threshold=cfg.threshold, band_share=cfg.band_share, one=one, score_near=score[cfg])
    kept |= {name: mean(x, rows) for name, x in zip(("iou", "covered"), found, strict=True)}
    kept |= {f"one_{name}": mean(x, rows) for name, x in zip(("iou", "covered"), flat, strict=True)}
    return kept | {"difference": difference(flat[0], found[0], rows)}


def shown(d):
    "A score with its interval."
    return interval_text(d["value"], d["interval"])


def more(d):
    "A difference with its interval."
    return interval_text(d["value"], d["interval"], signed=True)


def markdown(v):
    "The table of the page."
    lines = table("detections", "number", "band found", "IoU", "true band covered", "IoU of one band for all", "more")
    for name, r in v["rows"].items():
        lines.append(
            f"| {name} | {r['detections']} | {1 - r['without']:.0%} | {shown(r['iou'])} | {shown(r['covered'])} "
            f"| {shown(r['one_iou'])} | {more(r['difference'])} |"
        )
    first = next(iter(v["rows"].values()))
    return "\n".join(
        [
            *lines,
            "",
            f"{v['recordings']} invented recordings of {first['recordists']} people, whom and whose birds the "
            "settings were not chosen on; intervals by recordist. IoU: what found and true band share, as a part of "
            "what either holds; 0 where none was found. *One band for all* is the median of the other aviary; *more* "
            "is how much higher the IoU is than with it.",
            "",
        ]
    )


if __name__ == "__main__":
    args = arguments(__doc__, species=12, recordings=60, window=3)
    near, far = (aviary(args.species, args.recordings, seed) for seed in (CHOSEN_ON, TESTED))
    rows = {"the calls themselves": scored(near, far, 0)}
    rows[f"windows of {args.window} s with a call"] = scored(near, far, args.window)
    kept = dict(recordings=len(far), rows=rows, context_s=CONTEXT_S, piece_s=PIECE_S)
    write("boxes", kept, markdown, FOLDER)
