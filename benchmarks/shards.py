"""Reading shards of minutes of sound, with TensorFlow and without, beside what the speech study's network takes.

    python benchmarks/shards.py [--examples 76] [--rounds 7]

Noise is written as 60 s WAV files and packed into shards, once as 16-bit integers and once as floats; each round reads
all of them, from memory as far as the system keeps files there. Writes report/benchmarks/shards.json and a table.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf
from timing import arguments, fastest_first, interleaved, ratio, summary, table, write

from avianspec.learning.shard_batches import ShardBatches, shard_dataset
from avianspec.learning.tasks import Task
from avianspec.sound.features import FeatureConfig
from avianspec.stores.shards import CODINGS, ShardConfig, write_shards
from avianspec.studies.speech.networks import build_speech_network

BATCH, TASK, TRAINED = 4, Task(("F", "M")), "the network, trained"


def write_minutes(folder, n_examples, cfg):
    "Noise as 16-bit WAV files."
    rows = []
    for k in range(n_examples):
        y = np.random.default_rng(k).standard_normal(cfg.n_samples, np.float32) / 8
        sf.write(folder / f"noise{k:03d}.wav", np.clip(y, -1, 1), cfg.sr, subtype="PCM_16")
        rows.append(dict(recording_id=f"noise{k:03d}", label="FM"[k % 2], path=str(folder / f"noise{k:03d}.wav")))
    return pd.DataFrame(rows)


def read_all(batches):
    "One pass."
    for x, _ in batches:
        x.shape  # noqa: B018


def markdown(v):
    lines = [
        f"{v['examples']} examples of 60 s, {v['mb']['int16']:,.0f} MB as int16 and {v['mb']['float32']:,.0f} MB as "
        f"float32, on {v['cores']} cores of {v['processor']}; {v['rounds']} interleaved rounds, medians ({v['date']}).",
        *table("way", "million samples/s", "times what training takes"),
    ]
    for name, row in fastest_first(v["ways"]):
        lines.append(f"| {name} | {row['speed'] / 1e6:,.1f} | {ratio(row)} |")
    speeds = " and ".join(f"{mb / v['write_s'][c]:,.0f} MB/s ({c})" for c, mb in v["mb"].items())
    return "\n".join([*lines, "", f"Decoding the WAV files and writing the shards: {speeds}.", ""])


if __name__ == "__main__":
    args = arguments(__doc__, examples=76, rounds=7)
    with tempfile.TemporaryDirectory() as scratch:
        scratch, ways, mb, write_s = Path(scratch), {}, {}, {}
        minutes = write_minutes(scratch, args.examples, ShardConfig())
        for coding in CODINGS:
            cfg, began = ShardConfig(coding=coding), time.perf_counter()
            shards = write_shards(minutes, scratch / coding, "train", cfg, progress=False)
            write_s[coding], mb[coding] = time.perf_counter() - began, sum(p.stat().st_size for p in shards.files) / 1e6
            ways |= {
                f"{coding}, tf.data": shard_dataset(shards, TASK, BATCH, seed=0),
                f"{coding}, tf.data, cached in memory": shard_dataset(shards, TASK, BATCH, seed=0, cache="memory"),
                f"{coding}, without TensorFlow": ShardBatches(shards, TASK, BATCH, seed=0),
            }
        model = build_speech_network("mel_delta", cfg.n_samples, TASK, FeatureConfig(sr=cfg.sr))
        model.compile("adam", TASK.loss)
        x, y = ShardBatches(shards, TASK, BATCH)[0]
        calls = {name: (lambda batches=batches: read_all(batches)) for name, batches in ways.items()}
        calls[TRAINED] = lambda: model.train_on_batch(x, y)
        calls["the network, asked"] = lambda: model.predict_on_batch(x)
        took = interleaved(calls, args.rounds)
        for name in list(ways):  # seconds that a batch of them takes, beside those of a batch of the network
            took[name] = [s * BATCH / args.examples for s in took[name]]
        rows = summary(took, BATCH * cfg.n_samples, TRAINED)
    write("shards", dict(examples=args.examples, rounds=args.rounds, mb=mb, write_s=write_s, ways=rows), markdown)
