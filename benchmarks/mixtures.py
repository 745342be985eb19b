"""Mixtures of voices: how long a hundred files of a minute take, with one thread and with two.

    python benchmarks/mixtures.py [FOLDER] [--files 100]

FOLDER holds recordings in LibriSpeech's layout; without FOLDER, talkers are synthesised. Reading, resampling and
writing are part of it. Writes report/benchmarks/mixtures.json and a table.
"""

import tempfile
import time
from pathlib import Path

from timing import arguments, table, write

from avianspec.data.known_sets import load_librispeech
from avianspec.studies.speech.mixtures import MixtureConfig, make_mixtures, speaker_sides
from avianspec.synthetic.chatter import make_chatter


def seconds(speech, n, folder, jobs):
    "Seconds by the clock and of all processors that some mixtures take, each checked to be whole."
    began, worked, cfg = time.perf_counter(), time.process_time(), MixtureConfig(classes=("F", "M", "mixed"))
    made = make_mixtures(speech, speaker_sides(speech, n_folds=4), folder, cfg, n, jobs=jobs, progress=False)
    took = dict(clock=time.perf_counter() - began, processors=time.process_time() - worked)
    if len(made) != n:
        raise ValueError(f"{len(made)} mixtures were made; {n} were asked for.")
    return took


def markdown(v):
    lines = [
        f"{v['files']} mixtures of {v['duration_s']:g} s at {v['sr']:,} Hz, crowds and sequences in three classes, of "
        f"{v['speakers']} speakers of {v['data']}, on {v['cores']} cores of {v['processor']} ({v['date']}).",
        *table("threads", "seconds by the clock", "seconds of all processors", "ms a file"),
        *(
            f"| {n} | {r['clock']:.1f} | {r['processors']:.1f} | {1000 * r['clock'] / v['files']:.0f} |"
            for n, r in sorted(v["threads"].items())
        ),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    args = arguments(__doc__, "data", files=100)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        speech = load_librispeech(args.data or make_chatter(scratch / "chatter", progress=False))
        seconds(speech, 12, scratch / "warm", 2)  # does not count
        took = {n: seconds(speech, args.files, scratch / str(n), n) for n in (1, 2)}
    cfg = MixtureConfig()
    facts = dict(files=args.files, duration_s=cfg.duration_s, sr=cfg.sr, speakers=int(speech.group.nunique()))
    write("mixtures", dict(facts, data="recordings" if args.data else "invented talk", threads=took), markdown)
