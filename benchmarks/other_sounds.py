"""A label for other sounds: what it costs the birds, and how many sounds that are no bird still get the name of one.

    nice python benchmarks/other_sounds.py BIRDS OTHERS FOREIGN [--deals 3] [--folds 4] [--threads 2]

Listeners (the catalogue's birds-dictionary) learn the species in BIRDS, and beside them, as one more label, none, two
or five recordings of each kind in OTHERS. They are asked about the birds of the fold that they have not heard, about
recordings of OTHERS from other sources, about all of FOREIGN, another collection, and about noise. The threshold below
which nothing is named is chosen on the other folds, as a run does. What each training said is kept in the cache.
Writes report/real-birds/other_sounds.json and a table.
"""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
from open_set import PAGE, heard_in, noises, percent, settings, share
from timing import arguments, table, write

from avianspec.data.splits import grouped_folds, groups_of
from avianspec.files import atomic, cache_folder
from avianspec.learning.listeners import train_listener
from avianspec.learning.reuse import code_key
from avianspec.scoring.intervals import holm_intervals, interval, interval_text, paired_interval
from avianspec.scoring.open_set import open_set_facts

KEPT, OTHER = (0, 2, 5), "other sounds"
KINDS = {"others": "everyday sounds", "foreign": "another collection", "noise": "white and pink noise"}


def chosen(others, n, deal):
    "Recordings that are learnt, n of each kind and from as many sources; and those of sources of which none is."
    mixed = others.sample(frac=1, random_state=deal).drop_duplicates("source")
    learnt = mixed.groupby("label").head(n)
    return learnt, others[~others.source.isin(learnt.source)]


def one_training(learnt, asked, sounds, cfg, threads):
    "Probabilities of what is asked about, a row per recording."
    model = train_listener(
        [sounds[i] for i in learnt.id], list(learnt.answer), list(learnt.source), cfg, threads, False
    )
    said = np.array([model.predict_recording(sounds[i]) for i in asked.id])
    facts = asked[["id", "kind", "label", "answer", "source"]].reset_index(drop=True)
    return pd.concat([facts, pd.DataFrame(said, columns=list(model.classes))], axis=1)


def one_deal(birds, others, rest, sounds, n, deal, n_folds, cfg, threads):
    "Answers of all folds, each of listeners that learnt the others, and n recordings of each kind of other sounds."
    own, left = chosen(others, n, deal)
    known = pd.concat([birds, own.assign(kind="learnt", answer=OTHER)], ignore_index=True)
    parts = [part for part in (birds, own) if len(part)]
    folds = np.concatenate([grouped_folds(p.label.to_numpy(), p.source.to_numpy(), n_folds, deal) for p in parts])
    out = []
    for fold in range(n_folds):
        asked = pd.concat([known[folds == fold], left, rest], ignore_index=True)
        what = json.dumps([asdict(cfg), code_key("avianspec.learning.listener_runs"), n, deal, fold, *asked.id])
        path = cache_folder() / "other-sounds" / f"{hashlib.sha256(what.encode()).hexdigest()[:12]}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            said = one_training(known[folds != fold], asked, sounds, cfg, threads)
            with atomic(path) as temporary:
                said.to_parquet(temporary)
            print(f"{n} of each kind, deal {deal}: fold {fold + 1} of {n_folds}", flush=True)
        out.append(pd.read_parquet(path).assign(fold=fold, deal=deal))
    return pd.concat(out, ignore_index=True)


def with_threshold(rows):
    "The same rows: what is answered, whether that is right, and whether a species is named, by the setting of a run."
    classes = [c for c in rows.columns if c not in ("id", "kind", "label", "answer", "source", "fold", "deal")]
    p, out = rows[classes].to_numpy(), []
    rows = rows.assign(said=np.array(classes, dtype=object)[p.argmax(axis=1)], sure=p.max(axis=1))
    for fold, here in rows.groupby("fold"):
        held = (rows.fold != fold) & rows.kind.isin(("birds", "learnt"))
        facts = open_set_facts(p[held], list(rows.answer[held]), classes, list(rows.source[held]))
        out.append(here.assign(named=(here.sure >= facts["threshold"]) & (here.said != OTHER)))
    rows = pd.concat(out, ignore_index=True)
    return rows.assign(right=rows.said == rows.answer)


def measured(rows):
    "What is right and what is named, with intervals by group: recordists of birds, kinds of other sounds."
    birds = rows[rows.kind == "birds"]
    found = interval(birds.right.astype(float).to_numpy(), birds.source)
    out = dict(accuracy=found.value, interval=[found.low, found.high], called_other=float((birds.said == OTHER).mean()))
    out["balanced"] = float(birds.groupby("answer").right.mean().mean())
    kinds = {"right": birds[birds.right]} | {kind: rows[rows.kind == kind] for kind in KINDS}
    for kind, some in kinds.items():
        group = some.source if kind in ("right", "noise") else some.label
        out[kind] = share(some.assign(recording_id=some.id, group=group))
    return out


def markdown(v):
    "What was found, as a page fragment."
    lines = [
        f"{v['n_birds']} recordings of {v['n_species']} species, {v['n_others']} of {v['n_kinds']} kinds of other "
        f"sounds, and {v['n_foreign']} of another collection; the dictionary of the catalogue, {v['deals']} deals "
        f"into {v['folds']} folds ({v['date']}).",
        *table("other sounds learnt", "accuracy of birds", "balanced", "difference", "birds called other sounds"),
    ]
    for n, r in v["learnt"].items():
        d = r.get("difference")
        told = interval_text(d["value"], d["interval"], signed=True) if d else "–"
        cells = [interval_text(r["accuracy"], r["interval"]), f"{r['balanced']:.3f}", told, f"{r['called_other']:.1%}"]
        lines.append(f"| {int(n) * v['n_kinds']} | {' | '.join(cells).replace('%', ' %')} |")
    lines += ["", *table("other sounds learnt", "birds named rightly", *KINDS.values())]
    for n, r in v["learnt"].items():
        lines.append(f"| {int(n) * v['n_kinds']} | {' | '.join(percent(r[k]) for k in ('right', *KINDS))} |")
    return "\n".join([*lines, ""])


def as_asked(recordings, store, kind, source):
    "Rows of recordings of one kind, and what is heard in each."
    ids = [f"{kind} {i}" for i in recordings.recording_id]
    rows = pd.DataFrame(dict(id=ids, kind=kind, label=recordings.label, answer=recordings.label, source=source))
    return rows, dict(zip(ids, (store[i]["spectrogram"] for i in recordings.recording_id), strict=True))


if __name__ == "__main__":
    args = arguments(__doc__, "birds", "others", "foreign", deals=3, folds=4, threads=2)
    if not args.foreign:
        raise SystemExit("Give a folder of birds, one of other sounds, and one of another collection of such sounds.")
    rows, sounds = {}, {}
    for kind in ("birds", "others", "foreign"):
        recordings, store = heard_in(getattr(args, kind), f"other-{kind}", args.threads)
        rows[kind], heard = as_asked(recordings, store, kind, groups_of(recordings, "recordist").to_numpy())
        sounds |= heard
    plain = {f"noise {k}": x for k, x in enumerate(noises())}
    noise = pd.DataFrame(dict(id=list(plain), kind="noise", label="", answer="", source=list(plain)))
    rest, cfg = pd.concat([rows["foreign"], noise], ignore_index=True), settings("birds-dictionary")
    said = {}
    for n in KEPT:
        deals = range(args.deals)
        fixed = rows["birds"], rows["others"], rest, sounds | plain, n
        said[n] = pd.concat([with_threshold(one_deal(*fixed, d, args.folds, cfg, args.threads)) for d in deals])
    learnt = {n: measured(s) for n, s in said.items()}
    birds = {n: s[s.kind == "birds"].sort_values(["deal", "id"]) for n, s in said.items()}
    pairs = [
        paired_interval(*(birds[m].right.astype(float).to_numpy() for m in (0, n)), birds[0].source) for n in KEPT[1:]
    ]
    for n, d in zip(KEPT[1:], holm_intervals(pairs), strict=True):
        learnt[n]["difference"] = dict(value=d.value, interval=[d.low, d.high])
    facts = dict(learnt=learnt, deals=args.deals, folds=args.folds, n_birds=len(rows["birds"]))
    facts |= dict(n_species=rows["birds"].label.nunique(), n_others=len(rows["others"]))
    facts |= dict(n_kinds=rows["others"].label.nunique(), n_foreign=len(rows["foreign"]))
    write("other_sounds", facts, markdown, PAGE)
