"""How fast batches are made, and whether training waits for them.

    python benchmarks/generator.py [--data FOLDER] [--rounds 15]

Without --data, a small aviary is made. Writes report/benchmarks/generator.json and a table.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from avianspec.synthetic.aviary import make_aviary
from avianspec.sound.features import FeatureConfig
from avianspec.learning.generator import AudioFeatureGenerator, as_dataset
from avianspec.stores.preprocessing import build_store
from avianspec.data.layouts import load_recordings
from timing import fastest_first, interleaved, summary, write

BATCH, FRAMES = 64, 128


def looped(generator, i):
    "A window at a time, written down as one thinks of it: cut, scale, combine, pad, collect, join."
    s, m, x, y = generator.statistics["spectrogram"], generator.statistics["mfcc"], [], []
    for k in generator.order[i * BATCH : (i + 1) * BATCH]:
        a, offset = generator.first[k], generator.offset[k]
        here = slice(a + offset, a + min(generator.n_frames[k], offset + FRAMES))
        mel, cepstra = (
            (generator.store.spectrogram[here] - s.mean) / s.std,
            (generator.store.mfcc[here] - m.mean) / m.std,
        )
        window = np.concatenate([cepstra, mel[:, cepstra.shape[1] :]], axis=1)
        x.append(np.pad(window, ((0, FRAMES - len(window)), (0, 0)))[..., None])
        y.append(generator.targets[k])
    return np.stack(x), np.stack(y)


def tuned_loop(generator, i):
    "The same loop, tuned: straight into one array."
    s, m, which = (
        generator.statistics["spectrogram"],
        generator.statistics["mfcc"],
        generator.order[i * BATCH : (i + 1) * BATCH],
    )
    x, y = (
        np.zeros((len(which), FRAMES, 128, 1), np.float32),
        np.zeros((len(which), len(generator.task.classes)), np.float32),
    )
    for row, k in enumerate(which):
        a, n, offset = generator.first[k], generator.n_frames[k], generator.offset[k]
        here, length = slice(a + offset, a + min(n, offset + FRAMES)), min(n - offset, FRAMES)
        x[row, :length, :, 0] = (np.array(generator.store.spectrogram[here]) - s.mean) / s.std
        x[row, :length, : generator.store.mfcc.shape[1], 0] = (np.array(generator.store.mfcc[here]) - m.mean) / m.std
        y[row] = generator.targets[k]
    return x, y


def per_sample_dataset(generator):
    "tf.data with a window per element, an epoch."
    import tensorflow as tf

    def windows():
        for k in generator.order:
            yield generator.gather(np.array([k]))[0], generator.targets[k]

    signature = tuple(tf.TensorSpec(a.shape[1:], tf.float32) for a in generator[0])
    return tf.data.Dataset.from_generator(windows, output_signature=signature).batch(BATCH).prefetch(2)


def waiting(generator, precision, steps=12):
    "Seconds of waiting for batches and of training steps of v20."
    from avianspec.learning.settings import TrainingConfig
    from avianspec.learning.training import compiled
    from avianspec.studies.birds.networks import bird_network

    cfg = TrainingConfig(precision=precision)
    model = compiled(bird_network(cfg, generator), cfg, generator.task)
    model.train_on_batch(*generator[0])
    waited = trained = 0.0
    for k in range(steps):
        began = time.perf_counter()
        x, y = generator[k % len(generator)]
        got = time.perf_counter()
        model.train_on_batch(x, y)
        waited, trained = waited + got - began, trained + time.perf_counter() - got
    return dict(wait_ms=1000 * waited / steps, step_ms=1000 * trained / steps, share=waited / (waited + trained))


def markdown(v):
    lines = [
        f"Batches of {BATCH} windows of {FRAMES} × 128 from a warm store of {v['recordings']} recordings, on {v['processor']}; {v['ways']['avianspec']['rounds']} interleaved rounds, medians ({v['date']}).",
        "",
        "| way | ms a batch | windows/s | ratio to the loop |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {n} | {1000 * BATCH / r['speed']:.2f} | {r['speed']:,.0f} | {r['ratio']:.1f} ({r['low']:.1f} to {r['high']:.1f}) |"
        for n, r in fastest_first(v["ways"])
    ]
    lines += ["", "| training v20 on two cores | ms a step | ms waiting for a batch | share |", "|---|--:|--:|--:|"]
    lines += [
        f"| {n.replace('_', ' ')} | {w['step_ms']:.0f} | {w['wait_ms']:.2f} | {w['share']:.2%} |"
        for n, w in v["training"].items()
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if not args.data:
            make_aviary(Path(scratch) / "aviary", n_species=12, n_recordings=128, seed=0, jobs=2, progress=False)
        table = load_recordings(args.data or Path(scratch) / "aviary")
        store = build_store(table, FeatureConfig(), Path(scratch) / "store", progress=False)
        table = table[table.recording_id.isin(store.index.index)]
        table = pd.concat([table] * 8)  # an epoch of several batches
        make = lambda: AudioFeatureGenerator(
            store, table.recording_id, table.label, sorted(set(table.label)), batch_size=BATCH
        )
        generator, whole, single = make(), as_dataset(make()), per_sample_dataset(make())
        batches = range(len(generator))
        for i in batches:
            for loop in (looped, tuned_loop):
                np.testing.assert_allclose(loop(generator, i)[0], generator[i][0], atol=1e-4)
        ways = {
            "a loop over samples": lambda: [looped(generator, i) and None for i in batches],
            "the loop, tuned": lambda: [tuned_loop(generator, i) and None for i in batches],
            "avianspec": lambda: [generator[i] and None for i in batches],
            "avianspec through tf.data": lambda: [None for _ in whole],
            "tf.data, a sample at a time": lambda: [None for _ in single],
        }
        took = interleaved(ways, args.rounds)
        training = {p: waiting(generator, p) for p in ("float32", "mixed_bfloat16")}
    write(
        "generator",
        dict(recordings=len(store), ways=summary(took, len(table), "a loop over samples"), training=training),
        markdown,
    )
