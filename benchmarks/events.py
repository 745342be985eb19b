"""When and how high: regions by loudness against a framewise network, on invented birds and on a forest.

    nice python benchmarks/events.py SOUNDSCAPES [--species 12] [--recordings 300] [--tested 120] [--steps 300]

SOUNDSCAPES is a folder of recordings with one annotation file (Kaleidoscope, Raven, Audacity). The network learns from
an aviary what is in its recordings, and is tested on another aviary with other birds, people and microphones. All
settings are chosen on the first aviary, or on the other soundscapes. Aviaries and network are kept in the cache.
Writes report/field/events.json, two tables and two pictures.
"""

import itertools
import time
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from timing import OUT, arguments, table, write, write_page

from avianspec.data.annotations import load_annotations
from avianspec.files import atomic, cache_folder, read_json, settings_key
from avianspec.learning.framewise import (
    FRAMEWISE,
    EventConfig,
    framewise_events,
    framewise_of,
    moment_events,
    name_regions,
    train_framewise,
)
from avianspec.learning.residual import finely_seen
from avianspec.scoring import events as ev
from avianspec.scoring.intervals import interval_text, paired_interval
from avianspec.sound.audio import is_audio
from avianspec.sound.display import plot_spectrogram
from avianspec.sound.features import extract
from avianspec.sound.regions import RegionConfig, find_regions, plot_boxes
from avianspec.sound.whitening import FINE
from avianspec.synthetic.aviary import make_aviary

FOLDER, BIRD, CHOSEN_ON = OUT.parent / "field", "bird", 100  # recordings of the aviary that settings are chosen on
LEARNT, TESTED = 0, 2  # seeds of the aviaries; what the detectors are was settled with a look at that of seed 1
REGIONS = [
    RegionConfig(threshold, gap_s, quantile=quantile)
    for quantile, threshold, gap_s in itertools.product((0.4, 0.6), (2.5, 3.0, 3.5, 4.0, 4.5), (0.06, 0.1, 0.2))
] + [RegionConfig(threshold, gap_s, way="pcen") for threshold in (1.4, 1.7) for gap_s in (0.1, 0.3)]
LEAST_P = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the network, below which a region is dropped
EVENTS = [EventConfig(threshold, gap_s=gap_s) for threshold in (0.1, 0.2, 0.3, 0.5) for gap_s in (0.12, 0.2)]


ANY = ("regions", "framewise, any")  # detectors that are asked for birds of any kind


class Recordings:
    "Spectrograms by name, marks, and whose recordings they are."

    def __init__(self, files, marks, groups=None, labels=None):
        self.seen = {Path(f).name: extract(f, FINE)["spectrogram"] for f in files}
        self.marks, self.groups, self.labels = marks, groups, labels

    def some(self, n):
        "The first recordings."
        names = list(self.seen)[:n]
        part = object.__new__(Recordings)
        part.seen, part.marks = {k: self.seen[k] for k in names}, self.marks[self.marks.path.isin(names)]
        part.groups, part.labels = self.groups, self.labels
        return part

    def found(self, detect):
        "What a function of a name and a spectrogram finds in all of them; it gives start_s, end_s and maybe a label."
        tables = [detect(name, x).assign(path=name) for name, x in self.seen.items()]
        return pd.concat([t if "label" in t else t.assign(label=BIRD) for t in tables], ignore_index=True)

    def counts(self, found, kind=ev.event_counts, named=True):
        "Counts of what was found, by label, or of birds of any kind."
        marks = self.marks if named else self.marks.assign(label=BIRD)
        return kind(marks, found if named else found.assign(label=BIRD), list(self.seen))


def aviary(folder, n_species, n_recordings, seed):
    "An aviary with its truth, and what is said of whole recordings: the bird in front and those behind it."
    make_aviary(folder, n_species, n_recordings, seed, progress=False)
    listed = pd.read_csv(folder / "recordings.csv", keep_default_na=False)
    truth = pd.read_csv(folder / "truth.csv")
    names = {f"{r.gen} {r.sp}": r.en for r in listed.itertuples()}
    labels = {f"{r.id}.mp3": {r.en, *(names[a] for a in r.also.split("|") if a)} for r in listed.itertuples()}
    marks = truth.rename(columns={"onset_s": "start_s", "offset_s": "end_s", "species": "label"})
    marks = marks.assign(path=truth.recording_id + ".mp3")
    groups = {f"{r.id}.mp3": r.rec for r in listed.itertuples()}
    made = Recordings([folder / r.file for r in listed.itertuples()], marks, groups, labels)
    made.hours = {f"{r.id}.mp3": int(r.time[:2]) + int(r.time[3:]) / 60 for r in listed.itertuples()}
    return made


def soundscapes(folder):
    "Recordings of a folder, and marks made by hand."
    files = sorted(p for p in Path(folder).iterdir() if is_audio(p)) if Path(folder).is_dir() else []
    texts = [p for p in sorted(Path(folder).glob("*")) if p.suffix.lower() in (".csv", ".txt")]
    if not files or len(texts) != 1:
        raise SystemExit(f"{folder} holds {len(files)} recordings and {len(texts)} annotation files; name a folder of "
                         "recordings with one annotation file (.csv or .txt).")  # fmt: skip
    marks = load_annotations(texts[0])
    return Recordings(files, marks.assign(path=[Path(p).name for p in marks.path], label=BIRD))


def learnt(train, cfg, folder):
    "The network, from the cache where the same was trained before; seconds it took."
    kept = folder / f"framewise-{settings_key(cfg)}-{len(train.seen)}.npz"
    classes = tuple(sorted(set().union(*train.labels.values())))
    if kept.exists():
        with np.load(kept) as file:
            arrays = dict(file)
        return framewise_of(arrays, cfg, classes), float(arrays["took_s"])
    began = time.perf_counter()
    model = train_framewise(list(train.seen.values()), [train.labels[k] for k in train.seen], cfg)
    took = time.perf_counter() - began
    np.savez(kept, took_s=took, **model.arrays())
    return model, took


def f1(counts, without=None):
    "F1 of all recordings but one."
    weights = [[path != without for path in ev.recording_groups(counts)]]
    return float(np.nan_to_num(ev.event_score(counts)(np.array(weights, float))[0]))


def best(counts, without=None):
    "The settings of the highest F1 of events; of several, the first."
    return max(counts, key=lambda cfg: f1(counts[cfg], without))


def moments_of(model, data):
    "Probabilities over time of every recording."
    return {k: model.moments(finely_seen(x, model.cfg))[: max(1, -(-len(x) // 4))] for k, x in data.seen.items()}


def by_regions(cfg):
    "A detector of regions."
    return lambda name, x: find_regions(x, cfg)


def by_moments(cfg, moments, classes):
    "A detector of stretches in which a class is likely."
    return lambda name, x: moment_events(moments[name], classes, cfg)


def by_both(cfg, least_p, moments, classes):
    "A detector of regions that the network names, or drops."

    def detect(name, x):
        named = name_regions(find_regions(x, cfg), moments[name], classes)
        return named[named.score >= least_p]

    return detect


def by_recording(cfg, moments, classes):
    "A detector of regions that all bear the likeliest name of their recording."
    return lambda name, x: find_regions(x, cfg).assign(label=classes[int(moments[name].mean(axis=0).argmax())])


def scores(data, found, named):
    "Scores of events and of segments, as they are kept."
    out = {}
    for name, kind in (("events", ev.event_counts), ("segments", ev.segment_counts)):
        rows = ev.event_scores(data.counts(found, kind, named), data.groups)
        out[name] = {m: dict(value=r.value, interval=[r.low, r.high], remark=r.remark) for m, r in rows.iterrows()}
    return out


def difference(data, first, second, named):
    "By how much the second finds more, in F1 of events."
    a, b = (data.counts(found, named=named) for found in (first, second))
    d = paired_interval(ev.event_score(a), ev.event_score(b), ev.recording_groups(a, data.groups))
    return dict(value=d.value, interval=[d.low, d.high], p=d.p, remark=d.remark)


def on_aviary(train, test, model):
    "All detectors on the other aviary, with settings chosen on the first; what they found."
    few, classes = train.some(CHOSEN_ON), model.classes
    near, far = moments_of(model, few), moments_of(model, test)
    boxes = best({c: few.counts(few.found(by_regions(c)), named=False) for c in REGIONS})
    least = {
        named: best({p: few.counts(few.found(by_both(boxes, p, near, classes)), named=named) for p in LEAST_P})
        for named in (False, True)
    }
    alone = best({c: few.counts(few.found(by_moments(c, near, classes))) for c in EVENTS})
    chosen = dict(regions=boxes, least_any=least[False], least_named=least[True], moments=alone)
    found = {
        "regions": test.found(by_regions(boxes)),
        "framewise, any": test.found(by_both(boxes, least[False], far, classes)),
        "regions, majority": test.found(by_regions(boxes)).assign(label=few.marks.label.mode()[0]),
        "regions, named": test.found(by_recording(boxes, far, classes)),
        "moments alone": test.found(by_moments(alone, far, classes)),
        "framewise": test.found(by_both(boxes, least[True], far, classes)),
    }
    rows = {name: scores(test, table, named=name not in ANY) for name, table in found.items()}
    differences = {
        "any": difference(test, found["regions"], found["framewise, any"], False),
        "named": difference(test, found["regions, named"], found["framewise"], True),
        "majority": difference(test, found["regions, majority"], found["framewise"], True),
    }
    return dict(rows=rows, differences=differences, **facts(test)), chosen, found


def on_soundscapes(forest, model, chosen):
    "Both detectors on real recordings: with the aviary's settings, and with those that are best on the others."
    p, classes, rows, found = moments_of(model, forest), model.classes, {}, {}
    ways = {
        "regions": {(c, 0.0): by_regions(c) for c in REGIONS},
        "framewise, any": {(c, p_): by_both(c, p_, p, classes) for c in REGIONS for p_ in LEAST_P[1:]},
    }
    for name, detectors in ways.items():
        settings = chosen["regions"], 0.0 if name == "regions" else chosen["least_any"]
        detect = by_both(*settings, p, classes) if name != "regions" else by_regions(settings[0])
        rows[name] = scores(forest, forest.found(detect), False)
        tables = {key: forest.found(detect).assign(label=BIRD) for key, detect in detectors.items()}
        counts = {key: forest.counts(t, named=False) for key, t in tables.items()}
        picked = {path: tables[best(counts, path)] for path in forest.seen}
        found[name] = pd.concat([t[t.path == path] for path, t in picked.items()], ignore_index=True)
        rows[f"{name}, chosen here"] = scores(forest, found[name], False)
    change = difference(forest, found["regions"], found["framewise, any"], False)
    return dict(rows=rows, differences={"any": change}, **facts(forest)), found


def facts(data):
    "How much there is."
    minutes = sum(len(x) for x in data.seen.values()) * FINE.frame_s / 60
    n = len(set(data.groups.values())) if data.groups else len(data.seen)
    return dict(recordings=len(data.seen), minutes=minutes, marks=len(data.marks), groups=n)


def speeds(data, model, chosen):
    "Seconds of sound in a second by the clock, once over all recordings, from spectrograms on."
    seconds, out = sum(len(x) for x in data.seen.values()) * FINE.frame_s, {}
    for name, way in {
        "regions": lambda x: find_regions(x, chosen["regions"]),
        "framewise": lambda x: framewise_events(model, x, chosen["regions"]),
    }.items():
        way(next(iter(data.seen.values())))
        began = time.perf_counter()
        for x in data.seen.values():
            way(x)
        out[name] = seconds / (time.perf_counter() - began)
    return out


def presence(table, hours, labels, bins):
    "Seconds of each label in each bin of the clock, (n_labels, n_bins)."
    out = np.zeros((len(labels), len(bins) - 1))
    at = np.searchsorted(bins, [hours[path] for path in table.path], side="right") - 1
    for k, label, seconds in zip(at, table.label, table.end_s - table.start_s, strict=True):
        out[labels.index(label), min(k, out.shape[1] - 1)] += seconds
    return out


def plot_morning(test, found, path):
    "Presence over a morning by the truth and as found, and one recording of it with its boxes."
    import matplotlib.pyplot as plt

    labels = sorted(set(test.marks.label))
    bins = np.arange(4.5, 9.51, 0.25)
    fig, axes = plt.subplots(3, 1, figsize=(8, 9), layout="constrained", height_ratios=(1, 1, 1))
    panels = {"truth": test.marks, "found by the framewise network": found}
    most = max(presence(t, test.hours, labels, bins).max() for t in panels.values())
    for ax, (title, marks) in zip(axes, panels.items(), strict=False):
        seen = presence(marks, test.hours, labels, bins)
        image = ax.imshow(seen, aspect="auto", extent=(bins[0], bins[-1], len(labels), 0), vmin=0, vmax=most)
        ax.set_yticks(np.arange(len(labels)) + 0.5, labels, fontsize="small")
        ax.set(title=title, xlabel="time of day (h)")
        fig.colorbar(image, ax=ax, label="sounding (s)", pad=0.01)
    shown = max(test.seen, key=lambda k: (test.marks.path == k).sum() if len(test.seen[k]) < 1500 else 0)
    size = dict(sr=FINE.sr, hop_length=FINE.hop_length, fmin=FINE.fmin, fmax=FINE.fmax)
    plot_spectrogram(test.seen[shown], **size, ax=axes[2])
    plot_boxes(test.marks[test.marks.path == shown], axes[2], "w", "--")
    plot_boxes(found[found.path == shown], axes[2], "c")
    axes[2].set_title("one recording: truth dashed, found solid")
    save(fig, path)


def plot_forest(forest, found, path):
    "Marks made by hand, and both detectors' events, over time."
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    lines = {"marked by hand": forest.marks, "regions": found["regions"], "framewise": found["framewise, any"]}
    for shift, colour, (name, marks) in zip((-0.25, 0, 0.25), ("k", "C0", "C1"), lines.items(), strict=True):
        at = np.array([list(forest.seen).index(p) for p in marks.path], float) + shift
        ax.hlines(at, marks.start_s, marks.end_s, color=colour, lw=3, label=name)
    ax.set_yticks(range(len(forest.seen)), [Path(k).stem for k in forest.seen], fontsize="small")
    ax.invert_yaxis()
    ax.set(xlabel="time (s)")
    ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    save(fig, path)


def save(fig, path):
    "Write a picture, and close it."
    import matplotlib.pyplot as plt

    with atomic(path) as temporary:
        fig.savefig(temporary, dpi=80, format="png")
    plt.close(fig)


ROWS = {
    "regions": "regions: a bird, any",
    "framewise, any": "framewise: a bird, any",
    "regions, chosen here": "regions, settings from the other recordings",
    "framewise, any, chosen here": "framewise, settings from the other recordings",
    "regions, majority": "regions, all with the commonest name in training: species",
    "regions, named": "regions, with the likeliest name of the recording: species",
    "moments alone": "moments above a threshold, without regions: species",
    "framewise": "framewise, every region with its own name: species",
}


def shown(score):
    "A score with its interval."
    return interval_text(score["value"], score["interval"]) if score["value"] is not None else "–"


def score_lines(rows):
    "Table of detectors."
    lines = table("detector", "F1 of events", "precision", "recall", "F1 of seconds")
    for name in [name for name in ROWS if name in rows]:
        e, s = rows[name]["events"], rows[name]["segments"]
        cells = " | ".join(shown(x) for x in (e["f1"], e["precision"], e["recall"], s["f1"]))
        lines.append(f"| {ROWS[name]} | {cells} |")
    return lines


def change(d):
    "A difference in words."
    p = "" if d["interval"][0] is None else f", p = {d['p']:.3f}"
    return (
        f"{interval_text(d['value'], d['interval'], signed=True)}{p}{' (' + d['remark'] + ')' if d['remark'] else ''}"
    )


def aviary_markdown(v):
    a = v["aviary"]
    return "\n".join(
        [
            f"{a['recordings']} invented recordings ({a['minutes']:.0f} minutes) with {a['marks']} vocalisations, by "
            f"{a['groups']} invented people whom the network has never heard; intervals by recordist.",
            *score_lines(a["rows"]),
            "",
            f"Framewise against regions, F1 of events: a bird, any {change(a['differences']['any'])}; species, against "
            f"the commonest name {change(a['differences']['majority'])}, against the recording's likeliest name "
            f"{change(a['differences']['named'])}.",
            "",
            f"The network has {v['parameters']:,} numbers and learnt from {v['learnt_from']} recordings in "
            f"{v['steps']} steps, {v['took_s']:.0f} s on {v['cores']} cores of {v['processor']} ({v['date']}). "
            f"From spectrograms on, regions take a second for {v['speed']['regions']:,.0f} s of sound, with names for "
            f"{v['speed']['framewise']:,.0f} s.",
            "",
        ]
    )


def forest_markdown(v):
    f = v["soundscapes"]
    return "\n".join(
        [
            f"{f['recordings']} recordings ({f['minutes']:.1f} minutes) with {f['marks']} marks made by hand, all of "
            "them *bird*; intervals by recording.",
            *score_lines(f["rows"]),
            "",
            f"Framewise against regions, both with settings from the other recordings, F1 of events: "
            f"{change(f['differences']['any'])}.",
            "",
        ]
    )


if __name__ == "__main__":
    args = arguments(__doc__, "soundscapes", species=12, recordings=300, tested=120, steps=FRAMEWISE.steps)
    matplotlib.use("agg")
    forest, place = soundscapes(args.soundscapes), cache_folder() / "events"
    place.mkdir(parents=True, exist_ok=True)
    train, test = (
        aviary(place / f"aviary-{args.species}-{n}-{seed}", args.species, n, seed)
        for n, seed in ((args.recordings, LEARNT), (args.tested, TESTED))
    )
    model, took_s = learnt(train, replace(FRAMEWISE, steps=args.steps), place)
    birds, chosen, heard = on_aviary(train, test, model)
    woods, heard_there = on_soundscapes(forest, model, chosen)
    FOLDER.mkdir(exist_ok=True)
    plot_morning(test, heard["framewise"], FOLDER / "morning.png")
    plot_forest(forest, heard_there, FOLDER / "soundscapes.png")
    settings = {k: asdict(c) if is_dataclass(c) else c for k, c in chosen.items()}
    kept = dict(aviary=birds, soundscapes=woods, chosen=settings, speed=speeds(test, model, chosen))
    kept |= dict(parameters=sum(w.size for w in model.weights), learnt_from=len(train.seen), steps=args.steps)
    kept |= dict(took_s=took_s)
    write("events", kept, aviary_markdown, FOLDER)
    write_page("soundscapes", forest_markdown(read_json(FOLDER / "events.json")), FOLDER)
