"""Known against unknown: a species is left out of the training, and asked about.

    nice python benchmarks/open_set.py FOLDER [OTHERS] [--folds 3] [--ours 0] [--threads 2]

FOLDER holds recordings of several species in any layout. Each species is left out in turn; listeners learn the others
from all folds but one, and answer for that fold and for all recordings of the species left out. The setting is chosen
as a run chooses it, on the other folds' answers with the true species struck out, and tried on species never learnt,
on noise, and on the recordings in OTHERS, which hold none of the species.
The listener is the catalogue's birds-dictionary; with --ours 1 also that of birds-report. What each training said is
kept in the cache, so the measurement can be stopped and goes on where it was. Writes report/real-birds/open_set.json, a
table and a picture.
"""

import hashlib
import json
from dataclasses import asdict

import matplotlib
import numpy as np
import pandas as pd
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_curve
from timing import HOLDS, OUT, arguments, table, write

from avianspec.data.layouts import fill_durations, load_recordings
from avianspec.data.splits import grouped_folds, groups_of
from avianspec.files import atomic, cache_folder
from avianspec.learning.listener_runs import listener_settings
from avianspec.learning.listeners import train_listener
from avianspec.learning.reuse import code_key
from avianspec.runs.catalogue import load_catalogue
from avianspec.scoring.intervals import interval, interval_text, missing_note
from avianspec.scoring.metrics import auroc
from avianspec.scoring.open_set import known_from_unknown, open_set_facts, sureness
from avianspec.sound.features import log_mel
from avianspec.sound.whitening import FINE
from avianspec.stores.preprocessing import build_store

PAGE = OUT.parent / "real-birds"
NETWORKS = {"birds-dictionary": "dictionary", "birds-report": "ours, as in the default run"}
SCORES = {
    "largest": "largest probability",
    "certainty": "certainty",
    "agreement": "agreement of windows and members",
    "energy": "energy of the dictionary's classifier",
    "nearest": "likeness to the nearest training recording",
}
LEVELS = ("recording", "window")
BESIDE = ("n_atoms", "n_patches", "band_shifts", "C", "shrinkage", "noise_weight", "steps")  # of a listener beside v20
FEWEST = 4  # species: one is left out, and of the others one is struck out, after which two are left
KINDS = {
    "right": "a species that was learnt, named rightly",
    "wrong": "a species that was learnt, named wrongly",
    "unknown": "a species left out",
    "noise": "white and pink noise",
    "other": "everyday sounds",
}
COLOURS = {"known, named rightly": "#0072b2", "known, named wrongly": "#56b4e9", "unknown": "#d55e00"}


def settings(name):
    "How the listener of an experiment listens."
    p = load_catalogue()[name].parameters
    beside = dict(network=p["listener"], precision=p["listener_precision"]) if "listener" in p else {}
    own = {k: v for k, v in p.items() if not beside or k in BESIDE}
    return listener_settings({k: v for k, v in own.items() if v is not None} | beside, 0)


def noises(n=20, seconds=10):
    "Recordings of noise alone: white and pink in turn."
    rng, spectra = np.random.default_rng(0), []
    for k in range(n):
        spectrum = np.fft.rfft(rng.normal(size=seconds * FINE.sr))
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum))) ** (k % 2)
        y = np.fft.irfft(spectrum)
        spectra.append(log_mel((0.1 * y / np.abs(y).max()).astype(np.float32), FINE))
    return spectra


def heard_in(folder, name, threads):
    "Recordings in a folder that can be heard, and the store of that name of what is heard in them."
    table = fill_durations(load_recordings(folder))
    store = build_store(table, FINE, cache_folder() / "open-set" / name / FINE.key, threads, False)
    return table[table.recording_id.isin(store.index.index)].reset_index(drop=True), store


def at_home(model, log_mels, known):
    "Per recording: probabilities, sureness, energy, cosine to the nearest of some known ones; mean features; windows."
    dictionary, rows, means, windows = model.members[0], [], [], []
    for x in log_mels:
        found = model.windows_of(x)[0]
        head = dictionary.classifier
        scaled = np.clip((found[:, : dictionary.width] - head.centre) / head.scale, -5, 5)
        means.append(scaled.mean(axis=0) / np.linalg.norm(scaled.mean(axis=0)))
        log_p = model.log_probabilities(found)
        energy = logsumexp(scaled @ head.weights + head.bias, axis=1).mean()
        p = np.exp(log_p.mean(axis=0) - logsumexp(log_p.mean(axis=0)))
        rows.append(sureness(log_p) | dict(energy=energy) | {f"p_{k}": v for k, v in enumerate(p)})
        windows.append(softmax(log_p, axis=1))
    means = np.array(means)
    near = np.full(len(rows), np.nan) if known is None else (means @ known.T).max(axis=1)
    return pd.DataFrame(rows).assign(nearest=near), means, windows


def extra(recordings, name, left, fold):
    "Rows of recordings that no species is in; those of a label are a group."
    facts = recordings[["recording_id", "label"]].assign(left=left, fold=fold, kind=name)
    return facts.assign(group=np.where(facts.label == "", facts.recording_id, facts.label))


def one_training(recordings, groups, store, others, left, fold, n_folds, cfg, threads):
    "What a listener that has never learnt a species says of a fold of the others, of that species, noise, and others."
    learnt = (recordings.label != left).to_numpy()
    folds = np.full(len(recordings), -1)
    folds[learnt] = grouped_folds(recordings.label[learnt].to_numpy(), groups[learnt], n_folds, 0)

    def heard(rows):
        return [store[i]["spectrogram"] for i in recordings.recording_id[rows]]

    train = learnt & (folds != fold)
    model = train_listener(heard(train), list(recordings.label[train]), list(groups[train]), cfg, threads, False)
    known = at_home(model, heard(train), None)[1]
    asked, noise = ~learnt | (folds == fold), noises()
    said, _, windows = at_home(model, [*heard(asked), *noise, *others.spectrogram], known)
    facts = pd.DataFrame(dict(recording_id=recordings.recording_id[asked], label=recordings.label[asked]))
    facts = facts.assign(left=left, fold=fold, kind=np.where(learnt[asked], "known", "unknown"), group=groups[asked])
    noise = pd.DataFrame(dict(recording_id=[f"noise {k}" for k in range(len(noise))], label=""))
    extras = extra(noise, "noise", left, fold), extra(others, "other", left, fold)
    facts = pd.concat([facts, *extras], ignore_index=True)
    each = pd.DataFrame(np.concatenate(windows), columns=[f"p_{k}" for k in range(windows[0].shape[1])])
    owners = np.repeat(np.arange(len(facts)), [len(w) for w in windows])
    tables = pd.concat([facts, said], axis=1), pd.concat([facts.loc[owners].reset_index(drop=True), each], axis=1)
    return pd.concat([one.assign(level=name) for one, name in zip(tables, LEVELS, strict=True)], ignore_index=True)


def all_answers(recordings, groups, store, others, n_folds, name, threads):
    "Every species left out in turn, every fold asked once; what is in the cache is not done again."
    cfg, code = settings(name), code_key("avianspec.learning.listener_runs")
    asked = [list(table[name]) for table in (recordings, others) for name in ("recording_id", "label")]
    what = json.dumps([LEVELS, asdict(cfg), n_folds, code, *asked], default=str)
    folder = cache_folder() / "open-set" / hashlib.sha256(what.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for k, left in enumerate(sorted(set(recordings.label))):
        for fold in range(n_folds):
            path = folder / f"{k}-{fold}.parquet"
            if not path.exists():
                said = one_training(recordings, groups, store, others, left, fold, n_folds, cfg, threads)
                with atomic(path) as temporary:
                    said.to_parquet(temporary)
                print(f"{name}: without {left}, fold {fold + 1} of {n_folds}", flush=True)
            parts.append(pd.read_parquet(path))
    return pd.concat(parts, ignore_index=True)


def with_settings(rows):
    "The same rows: named, right, and what the setting of the other folds promised."
    out = []
    for (left, fold), here in rows.groupby(["left", "fold"]):
        others = rows[(rows.left == left) & (rows.fold != fold) & (rows.kind == "known")]
        classes = sorted(set(others.label))
        columns = [f"p_{k}" for k in range(len(classes))]
        facts = open_set_facts(others[columns].to_numpy(), others.label, classes, others.group)
        p = here[columns].to_numpy()
        named, answer = p.max(axis=1) >= facts["threshold"], np.array(classes, dtype=object)[p.argmax(axis=1)]
        promised = dict(promised=facts["unknown"]["share"], stand_in=facts["auroc"]["value"])
        out.append(here.assign(named=named, right=answer == here.label, **promised))
    return pd.concat(out, ignore_index=True)


def mean_auroc(rows, score):
    "Mean over the species left out of the AUROC of known against unknown, with its interval by group."
    parts = [np.flatnonzero(rows.left == left) for left in sorted(set(rows.left))]
    value = rows[score].to_numpy() - rows[score].min()

    def mean(weights):
        truth = (rows.kind == "known").to_numpy()
        return np.mean([auroc(value[k][:, None], truth[k][:, None], weights[:, k]) for k in parts], axis=0)

    return interval(mean, rows.group)


def share(rows):
    "Share that is named, with its interval by group."
    found = interval(rows.named.astype(float).to_numpy(), rows.group)
    n = int(rows.recording_id.nunique())
    return dict(share=found.value, interval=[found.low, found.high], n=n, remark=found.remark)


def named(rows):
    "How many still get a name, of each kind; and what was promised of the unknown."
    known, unknown, *extras = (rows[rows.kind == kind] for kind in ("known", "unknown", "noise", "other"))
    promised = dict(promised=float(rows.promised.mean()), auroc_promised=float(rows.stand_in.mean()))
    kinds = dict(right=share(known[known.right]), wrong=share(known[~known.right]))
    kinds |= {rows.kind.iloc[0]: share(rows) for rows in extras if len(rows)}
    return kinds | dict(unknown=share(unknown) | promised, accuracy=float(known.right.mean()))


def measured(rows, windows):
    "What one listener is worth, species by species and over all."
    species, scores = {}, {}
    for left, here in rows.groupby("left"):
        a, b = (here[here.kind == kind] for kind in ("known", "unknown"))
        found = known_from_unknown(a.largest, b.largest, [*a.group, *b.group])
        species[left] = share(b) | dict(auroc=found.value, auroc_interval=[found.low, found.high])
    for score in SCORES:
        found = mean_auroc(rows[rows.kind.isin(("known", "unknown"))], score)
        scores[score] = dict(auroc=found.value, interval=[found.low, found.high], remark=found.remark)
    other = rows[rows.kind == "other"].groupby("label").named.mean().to_dict()
    return dict(species=species, scores=scores, recording=named(rows), window=named(windows), other=other)


def percent(found):
    "A share, with its interval where it has one."
    low, high = found.get("interval", [None, None])
    return f"{100 * found['share']:.0f} %" + ("" if low is None else f" ({100 * low:.0f} to {100 * high:.0f})")


def markdown(v):
    "What was found, as a page fragment."
    lines = [
        f"{v['n_recordings']} recordings of {v['n_species']} species by {v['n_groups']} recordists, {v['folds']} folds "
        f"({v['date']}). Of the recordings asked about as unknown, {v['n_background']} have one of the species that "
        "the listener had learnt in the background, by the recordist's own list.",
    ]
    for name, found in v["networks"].items():
        lines += ["", f"**{name}**", *table("species left out", "recordings", "AUROC", "still named")]
        for left, one in found["species"].items():
            told = interval_text(one["auroc"], one["auroc_interval"])
            lines.append(f"| {left} | {one['n']} | {told} | {percent(one)} |")
        best, unknown = found["scores"]["largest"], found["recording"]["unknown"]
        told = interval_text(best["auroc"], best["interval"])
        lines.append(f"| **all** | {unknown['n']} | **{told}** | **{percent(unknown)}** |")
        ends, remarks = zip(*((s["interval"][0], s["remark"]) for s in found["species"].values()), strict=True)
        if note := missing_note([np.nan if end is None else end for end in ends], remarks):
            lines += ["", f"Still named: {note}."]
        lines += table("still named", *(f"{level}s" for level in LEVELS))
        for kind, title in KINDS.items():
            if kind in found["recording"]:
                lines.append(f"| {title} | {' | '.join(percent(found[level][kind]) for level in LEVELS)} |")
        promised = (percent(dict(share=found[level]["unknown"]["promised"])) for level in LEVELS)
        lines.append(f"| *a species left out, as the stand-in promises* | {' | '.join(promised)} |")
        lines += [
            "",
            f"If everything were named, {percent(dict(share=found['recording']['accuracy']))} of the known recordings "
            f"would be named rightly. AUROC of the stand-in: {unknown['auroc_promised']:.3f}.",
        ]
    lines += ["", "Other scores, mean AUROC over the species left out:"]
    lines += table("score", *v["networks"])
    for score, title in SCORES.items():
        cells = [f["scores"][score] for f in v["networks"].values()]
        lines.append(f"| {title} | {' | '.join(interval_text(c['auroc'], c['interval']) for c in cells)} |")
    if v["n_others"]:
        lines += ["", f"Of {v['n_others']} everyday sounds get a name:", *table("sound", *v["networks"])]
        for label in next(iter(v["networks"].values()))["other"]:
            cells = (percent(dict(share=f["other"][label])) for f in v["networks"].values())
            lines.append(f"| {label.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def plot(rows):
    "How sure of the known and of the unknown; and how well they are told apart, by the species left out."
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    known, unknown = rows.kind == "known", rows.kind == "unknown"
    kinds = dict(zip(COLOURS, (known & rows.right, known & ~rows.right, unknown), strict=True))
    for name, here in kinds.items():
        value = np.sort(rows.largest[here])
        left.step(value, np.linspace(1, 0, len(value)), where="pre", color=COLOURS[name], label=name)
    left.set(xlabel="threshold of the largest probability", ylabel="share still named", xlim=(0, 1), ylim=(0, 1.02))
    left.legend(frameon=False, fontsize="small")
    for k, (name, here) in enumerate(rows[known | unknown].groupby("left")):
        false, true, _ = roc_curve(here.kind == "known", here.largest)
        right.plot(false, true, color=plt.get_cmap("tab10")(k), lw=1.2, label=name)
    right.plot([0, 1], [0, 1], "--", color="0.6", lw=1)
    right.set(xlabel="unknown still named", ylabel="known still named", xlim=(0, 1), ylim=(0, 1.02))
    right.legend(frameon=False, fontsize="x-small", title="species left out", title_fontsize="x-small")
    fig.savefig(PAGE / "open_set.png", dpi=110)


if __name__ == "__main__":
    args = arguments(__doc__, "data", "others", folds=3, ours=0, threads=2)
    if not args.data:
        raise SystemExit(f"Give a folder of recordings of {FEWEST} species or more.")
    matplotlib.use("agg")
    recordings, store = heard_in(args.data, "species", args.threads)
    if (n := recordings.label.nunique()) < FEWEST:
        raise SystemExit(f"{args.data} has {n} species, and {FEWEST} are needed; add recordings of other species.")
    others = recordings[:0].assign(spectrogram=[])
    if args.others:
        others, sounds = heard_in(args.others, "others", args.threads)
        others = others.assign(spectrogram=[sounds[i]["spectrogram"] for i in others.recording_id])
    groups = groups_of(recordings, "recordist").to_numpy()
    names = recordings.scientific_name.unique()
    behind = [
        any(n in text for n in names if n and n != own)
        for own, text in zip(recordings.scientific_name, recordings.background, strict=True)
    ]
    networks = {}
    for name in list(NETWORKS)[: 1 + bool(args.ours)]:
        answers = all_answers(recordings, groups, store, others, args.folds, name, args.threads)
        rows, windows = (with_settings(answers[answers.level == level]) for level in LEVELS)
        networks[NETWORKS[name]] = measured(rows, windows)
    facts = dict(
        networks=networks,
        folds=args.folds,
        n_recordings=len(recordings),
        n_species=recordings.label.nunique(),
        n_groups=len(set(groups)),
        n_others=len(others),
        n_background=int(np.sum(behind)),
    )
    first, second, scores, sounds = HOLDS["open_set"]
    for_ours = [f"for ours {what}" for what in (first, second)] * (len(networks) - 1)
    HOLDS["open_set"] = [first, second, *for_ours, scores, *[sounds] * bool(args.others)]
    write("open_set", facts, markdown, PAGE)
    plot(rows)
