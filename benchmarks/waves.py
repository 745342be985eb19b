"""Feeding a network of raw waves: cut from the memory map, or loaded and resampled for every sample as the study did.

    python benchmarks/waves.py [FOLDER] [--clips 256] [--rounds 7] [--steps 5]

FOLDER holds recordings in any layout; cuts of them of up to 30 s are written as 44.1 kHz WAV. Without FOLDER, a soundbox is
synthesised. Writes report/benchmarks/waves.json and a table.
"""

import itertools
import tempfile
import time
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile as sf
from timing import arguments, batch_lines, interleaved, needed, summary, training_lines, waiting, write

from avianspec.data.layouts import load_layout
from avianspec.data.recordings import validate
from avianspec.learning.tasks import task_of
from avianspec.learning.wave_batches import WaveGenerator
from avianspec.sound.augmentation import parse_augmentation
from avianspec.stores.waves import WaveConfig, build_waves
from avianspec.synthetic.soundbox import make_soundbox

BATCH, SR, SECONDS, LONGEST_S = 64, 16000, 2.0, 30
AUGMENTED = "mixing=0.5 noise=20 gain=6"


def write_corpus(table, n_clips, folder):
    "Clips of 0.5 to 30 s, 44.1 kHz, mono, 16-bit WAV, cut from recordings in a loop."
    rng, rows = np.random.default_rng(0), []
    for k in range(n_clips):
        row = table.iloc[k % len(table)]
        y = librosa.load(row.path, sr=44100)[0]
        n = int(44100 * np.exp(rng.uniform(np.log(0.5), np.log(LONGEST_S))))
        path = folder / f"clip{k:05d}.wav"
        sf.write(path, np.resize(np.roll(y, -rng.integers(len(y))), n), 44100, subtype="PCM_16")
        rows.append(dict(recording_id=path.stem, label=row.label, path=str(path)))
    return validate(pd.DataFrame(rows))


class LoadedBatches:
    "The study's generator: each sample is loaded, resampled, cut or padded, and normalised in its batch."

    def __init__(self, table, task, resampler):
        self.paths, self.targets, self.resampler, self.length = (
            list(table.path),
            task.targets(table.label),
            resampler,
            int(SR * SECONDS),
        )

    def __len__(self):
        return -(-len(self.paths) // BATCH)

    def __getitem__(self, i):
        x = np.empty((len(self.paths[i * BATCH : (i + 1) * BATCH]), self.length, 1), np.float32)
        for row, path in zip(x, self.paths[i * BATCH : (i + 1) * BATCH]):
            data = librosa.load(path, sr=SR, res_type=self.resampler)[0]
            spare = len(data) - self.length
            offset = np.random.randint(abs(spare) + 1)
            data = data[offset : offset + self.length] if spare > 0 else np.pad(data, (offset, -spare - offset))
            row[:, 0] = (data - data.min()) / (data.max() - data.min() + 1e-6) - 0.5
        return x, self.targets[i * BATCH : (i + 1) * BATCH]


def raw_wave_network(task):
    "The study's network of (32000, 1), as published."
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((int(SR * SECONDS), 1))
    for filters, kernel, pool, dropout in ((16, 9, 16, 0.1), (32, 3, 4, 0.1), (32, 3, 4, 0.1), (256, 3, 0, 0.2)):
        for _ in range(2):
            x = layers.Conv1D(filters, kernel, activation="relu")(x)
        x = layers.Dropout(dropout)(layers.MaxPooling1D(pool)(x) if pool else layers.GlobalMaxPooling1D()(x))
    for units in (64, 1028):
        x = layers.Dense(units, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(len(task.classes), activation="softmax")(x))
    model.compile("adam", "categorical_crossentropy")
    return model


def markdown(v):
    rounds = v["ways"]["memory map"]["rounds"]
    lines = [
        f"Batches of {BATCH} windows of {SECONDS:g} s at 16 kHz, from {v['clips']} clips of 0.5 to {LONGEST_S} s "
        f"({v['hours']:.2f} hours of {v['data']}, 44.1 kHz WAV), on {v['cores']} cores of {v['processor']}; "
        f"{rounds} interleaved rounds, medians ({v['date']}).",
        *batch_lines(v["ways"], BATCH, "the study's way"),
        "",
        f"Building the memory map once took {v['build_s']:.1f} s.",
        *training_lines(v["training"], "training the raw-wave network"),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    args = arguments(__doc__, "data", clips=256, rounds=7, steps=5)
    needed("resampy", "The study's way to resample")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "clips").mkdir()
        if not args.data:
            make_soundbox(scratch / "soundbox", n_clips=64, progress=False)
        table = write_corpus(load_layout(args.data or scratch / "soundbox"), args.clips, scratch / "clips")
        task = task_of(table.label.str.split(",").str[0])  # softmax, one label a clip, as in the study
        table = table.assign(label=table.label.str.split(",").str[0])
        began = time.perf_counter()
        store = build_waves(table, WaveConfig(SR), scratch / "waves", progress=False)
        build_s = time.perf_counter() - began
        table = table[table.recording_id.isin(store.index.index)]  # a cut may be silent

        def make(text=""):
            changes = parse_augmentation(text)
            ids, labels = table.recording_id, table.label
            return WaveGenerator(store, ids, labels, task, SECONDS, BATCH, shuffle=False, augmentation=changes)

        batches = {
            "the study's way (librosa.load, kaiser_fast)": LoadedBatches(table, task, "kaiser_fast"),
            "librosa.load as it is today (soxr_hq)": LoadedBatches(table, task, "soxr_hq"),
            "memory map": make(),
            f"memory map, augmented ({AUGMENTED})": make(AUGMENTED),
        }
        x, theirs = batches["memory map"][0][0], batches["librosa.load as it is today (soxr_hq)"][0][0]
        assert x.shape == theirs.shape and np.allclose(x.min(1), theirs.min(1), atol=1e-4)
        turns = {name: itertools.cycle(range(len(b))) for name, b in batches.items()}
        took = interleaved(
            {name: (lambda b=b, turn=turns[name]: b[next(turn)]) for name, b in batches.items()}, args.rounds
        )
        ways = summary(took, BATCH, "the study's way (librosa.load, kaiser_fast)")
        training = waiting(batches, raw_wave_network(task), args.steps)
    source = "cuts of recordings" if args.data else "a synthesised soundbox"
    write(
        "waves",
        dict(
            data=source,
            clips=len(table),
            hours=float(store.index.duration_s.sum() / 3600),
            build_s=build_s,
            ways=ways,
            training=training,
        ),
        markdown,
    )
