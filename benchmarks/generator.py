"""How fast batches are made, and whether training waits for them.

    python benchmarks/generator.py [FOLDER] [--rounds 15] [--steps 12]

Without FOLDER, a small aviary is made. Writes report/benchmarks/generator.json and a table.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from timing import arguments, batch_lines, interleaved, needed, summary, training_lines, waiting, write

from avianspec.data.layouts import load_recordings
from avianspec.learning.generator import AudioFeatureGenerator, as_dataset
from avianspec.sound.features import FeatureConfig
from avianspec.stores.preprocessing import build_store
from avianspec.synthetic.aviary import make_aviary

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


def network(generator, precision):
    "The network v20, compiled."
    from avianspec.learning.settings import TrainingConfig
    from avianspec.learning.training import compiled
    from avianspec.studies.birds.networks import bird_network

    cfg = TrainingConfig(precision=precision)
    return compiled(bird_network(cfg, generator), cfg, generator.task)


def markdown(v):
    rounds = v["ways"]["avianspec"]["rounds"]
    lines = [
        f"Batches of {BATCH} windows of {FRAMES} × 128 from a warm store of {v['recordings']} recordings, "
        f"on {v['processor']}; {rounds} interleaved rounds, medians ({v['date']}).",
        *batch_lines(v["ways"], BATCH, "the loop"),
        *training_lines(v["training"], "training v20"),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    args = arguments(__doc__, "data", rounds=15, steps=12)
    needed("tensorflow", "tf.data")
    with tempfile.TemporaryDirectory() as scratch:
        if not args.data:
            make_aviary(Path(scratch) / "aviary", n_species=12, n_recordings=128, seed=0, jobs=2, progress=False)
        table = load_recordings(args.data or Path(scratch) / "aviary")
        store = build_store(table, FeatureConfig(), Path(scratch) / "store", progress=False)
        table = table[table.recording_id.isin(store.index.index)]
        table = pd.concat([table] * 8)  # an epoch of several batches

        def make():
            classes = sorted(set(table.label))
            return AudioFeatureGenerator(store, table.recording_id, table.label, classes, batch_size=BATCH)

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
        training = {}
        for p in ("float32", "mixed_bfloat16"):
            training |= waiting({p: generator}, network(generator, p), args.steps)
    write(
        "generator",
        dict(recordings=len(store), ways=summary(took, len(table), "a loop over samples"), training=training),
        markdown,
    )
