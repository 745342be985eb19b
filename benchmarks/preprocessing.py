"""How fast features are made: ours, librosa's, the 2020 study's and those of peers, on the same files in the same run.

    pip install -e ".[bench]"
    python benchmarks/preprocessing.py [FOLDER OF MP3S] [--seconds 600] [--rounds 7]

Without a folder, mp3s of noise and chirps are made. Writes report/benchmarks/preprocessing.json, a table and a plot.
"""

import os
import tempfile
from pathlib import Path

import librosa
import matplotlib
import numpy as np
import soundfile as sf
import soxr
from timing import OUT, arguments, fastest_first, interleaved, optional, ratio, summary, table, write

from avianspec.sound.audio import AudioStream, to_mono
from avianspec.sound.features import FeatureConfig, extract, log_mel, mfcc, resampled
from avianspec.stores.preprocessing import FeatureStore
from avianspec.stores.store import make_parts

matplotlib.use("agg")
CFG = FeatureConfig()


def made_up_mp3s(folder, n=12):
    "Stereo mp3s at 44.1 kHz."
    rng, t = np.random.default_rng(0), np.arange(40 * 44100) / 44100
    for k in range(n):
        chirp = 0.3 * np.sin(2 * np.pi * (5000 * (t % 0.2) - (3000 + 500 * k) * (t % 0.2) ** 2))
        sf.write(
            folder / f"{k:02d}.mp3",
            (chirp[:, None] + 0.01 * rng.standard_normal((len(t), 2))).astype(np.float32),
            44100,
        )


def choose(folder, seconds):
    "Files at 44.1 kHz of five seconds to two minutes, in a seeded order, up to so many seconds in all."
    chosen, total = [], 0.0
    for path in np.random.default_rng(0).permutation(sorted(Path(folder).rglob("*.mp3"))):
        info = sf.info(path)
        if info.samplerate != 44100 or not 5 <= info.duration <= 120:
            continue
        chosen, total = chosen + [path], total + info.duration
        if total >= seconds:
            break
    return chosen, total


def in_2020(path):
    "librosa as it was called in 2020: kaiser_best, then two transforms."
    y, sr = librosa.load(path, sr=CFG.sr, res_type="kaiser_best")
    return np.log(np.maximum(librosa.feature.melspectrogram(y=y, sr=sr), 1e-10)), librosa.feature.mfcc(y=y, sr=sr)


def librosa_today(path):
    y, sr = librosa.load(path, sr=CFG.sr)
    return np.log(np.maximum(librosa.feature.melspectrogram(y=y, sr=sr), 1e-10)), librosa.feature.mfcc(y=y, sr=sr)


def librosa_one_transform(path):
    y, sr = librosa.load(path, sr=CFG.sr)
    mel = librosa.feature.melspectrogram(y=y, sr=sr)
    return np.log(np.maximum(mel, 1e-10)), librosa.feature.mfcc(S=librosa.power_to_db(mel))


def floor(path):
    "Decode, mix, resample, whole files: what no feature code can beat."
    y, sr = sf.read(path, dtype="float32", always_2d=True)
    return soxr.resample(to_mono(y), sr, CFG.sr, quality="HQ")


def floor_in_blocks(path):
    "The same in blocks, as ours does it."
    stream = AudioStream(path)
    for _ in resampled(stream.mono(), stream.sr, CFG.sr):
        pass


def peers(sounds):
    "The spectral part alone, of decoded sound: 128 mel bands, and MFCCs where they come from the same transform."

    def with_librosa():
        for y in sounds:
            np.log(np.maximum(librosa.feature.melspectrogram(y=y, sr=CFG.sr), 1e-10))
            librosa.feature.mfcc(y=y, sr=CFG.sr)

    def with_ours():
        for y in sounds:
            mfcc(log_mel(y, CFG), CFG)

    ways = {"librosa": with_librosa, "avianspec": with_ours}
    if audioflux := optional("audioflux"):

        def with_audioflux():
            for y in sounds:
                shape = dict(num=128, radix2_exp=11, samplate=CFG.sr, slide_length=CFG.hop_length)
                np.log(np.maximum(audioflux.mel_spectrogram(y, **shape)[0], 1e-10))

        ways["audioflux (mel only)"] = with_audioflux
    if kaldi := optional("kaldi_native_fbank"):
        options = kaldi.FbankOptions()
        options.frame_opts.samp_freq, options.frame_opts.dither, options.mel_opts.num_bins = CFG.sr, 0, 128
        options.frame_opts.frame_length_ms, options.frame_opts.frame_shift_ms = (1000 * n / CFG.sr for n in (2048, 512))

        def with_kaldi():
            for y in sounds:
                bank = kaldi.OnlineFbank(options)
                bank.accept_waveform(CFG.sr, y.tolist())
                bank.input_finished()
                np.stack([bank.get_frame(k) for k in range(bank.num_frames_ready)])

        ways["kaldi-native-fbank (mel only)"] = with_kaldi
    return ways


def over(files, function):
    return lambda: [function(f) for f in files] and None


def plot(value):
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for ax, part, title in zip(
        axes, ("files", "spectral"), ("from mp3 to features, one core", "the spectral part alone"), strict=True
    ):
        rows = sorted(value[part].items(), key=lambda r: r[1]["speed"])
        ax.barh(
            [n for n, _ in rows],
            [r["speed"] for _, r in rows],
            color=["#d55e00" if n == "avianspec" else "#999999" for n, _ in rows],
        )
        for y, (_, r) in enumerate(rows):
            ax.annotate(f" {r['speed']:,.0f}", (r["speed"], y), va="center", fontsize="small")
        ax.set(xlabel="seconds of sound per second", title=title)
        ax.margins(x=0.15)
    OUT.mkdir(parents=True, exist_ok=True)
    fig.savefig(OUT / "preprocessing.png", dpi=150)


def markdown(v):
    rounds = v["files"]["avianspec"]["rounds"]
    lines = [
        f"{v['files_used']} mp3s at 44.1 kHz, {v['seconds'] / 60:.0f} minutes, on {v['processor']}; one core, "
        f"{rounds} interleaved rounds, medians ({v['date']}).",
    ]
    for part, what, against in (
        ("files", "from mp3 to 128 log-mels and 20 MFCCs", "librosa today"),
        ("spectral", "the spectral part alone", "librosa"),
    ):
        lines += table(what, "× real time", f"ratio to {against}")
        lines += [f"| {n} | {r['speed']:,.0f} | {ratio(r, 2)} |" for n, r in fastest_first(v[part])]
    before = f", and {v['against_2020']:.0f} times that of the 2020 study's calls" if v["against_2020"] else ""
    lines += [
        "",
        f"Ours reaches {v['share_of_floor']:.0%} of the speed of decoding, mixing and resampling alone "
        f"({v['share_of_block_floor']:.0%} of the same done in blocks){before}. "
        f"Two threads over files are {ratio(v['two_workers'], 2).replace(' (', ' times as fast as one (')}.",
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    args = arguments(__doc__, "folder", seconds=600.0, rounds=7)
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as scratch:
        if not args.folder:
            made_up_mp3s(Path(scratch))
        files, seconds = choose(args.folder or scratch, args.seconds)
        if not files:
            raise SystemExit(
                f"{args.folder} holds no mp3 at 44.1 kHz of five seconds to two minutes; name another folder."
            )
        os.sched_setaffinity(0, {min(cores)})
        ways = {
            "librosa today": librosa_today,
            "librosa, one transform": librosa_one_transform,
            "avianspec": extract,
            "floor: decode, mix, resample": floor,
            "floor, in blocks": floor_in_blocks,
        }
        if optional("resampy"):
            ways["2020's way"] = in_2020
        took = interleaved({name: over(files, way) for name, way in ways.items()}, args.rounds)
        sounds = [floor(f) for f in files]
        spectral = interleaved(peers(sounds), args.rounds)
        os.sched_setaffinity(0, cores)
        places = iter(range(10**6))

        def workers(n):
            paths = [str(f) for f in files]
            return lambda: make_parts(
                FeatureStore, paths, CFG, Path(scratch) / f"parts{next(places)}", n, progress=False
            )

        files, _ = choose(
            args.folder or scratch, max(2400, args.seconds)
        )  # enough of them that the last one hardly counts
        pair = interleaved({"one": workers(1), "two": workers(2)}, args.rounds)

    def against(name):
        return float(np.median(np.array(took[name]) / np.array(took["avianspec"])))

    value = dict(
        files_used=len(sounds),
        seconds=seconds,
        files=summary(took, seconds, "librosa today"),
        spectral=summary(spectral, seconds, "librosa"),
        share_of_floor=against("floor: decode, mix, resample"),
        share_of_block_floor=against("floor, in blocks"),
        against_2020=against("2020's way") if "2020's way" in took else None,
        two_workers=summary(pair, seconds, "one")["two"],
    )
    plot(value)
    write("preprocessing", value, markdown)
