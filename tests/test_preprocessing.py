"""Features equal librosa's; the store survives odd files, kills and changes."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from avianspec.features import FeatureConfig, extract, log_mel, mel_power, mfcc, spectrogram
from avianspec.preprocessing import FeatureStore, build_store
from avianspec.recordings import load_recordings


def chirps(n, seed):
    "Falling sweeps in noise that span ninety decibels."
    rng, t = np.random.default_rng(seed), np.arange(n) / 22050
    y = 0.5 * np.sin(2 * np.pi * (4000 * t - 300 * t**2)) * (np.sin(5 * t) > 0) + 10 ** rng.uniform(-4.5, -2) * rng.standard_normal(n)
    return y.astype(np.float32)


configs = st.builds(FeatureConfig, n_fft=st.sampled_from([512, 1024, 2048]), hop_length=st.sampled_from([128, 256, 512, 700]),
                    window=st.sampled_from(["hann", "hamming", "blackman"]), center=st.booleans(), n_mels=st.sampled_from([40, 64, 128]),
                    fmin=st.sampled_from([0.0, 150.0]), fmax=st.sampled_from([None, 8000.0]), htk=st.booleans(),
                    norm=st.sampled_from(["slaney", None]), n_mfcc=st.integers(5, 30))


@settings(max_examples=30, deadline=None)
@given(configs, st.integers(2048, 60000), st.integers(0, 99))
def test_features_are_librosas(cfg, n, seed):
    y = chirps(n, seed)
    power = librosa.feature.melspectrogram(y=y, sr=cfg.sr, n_fft=cfg.n_fft, hop_length=cfg.hop_length, window=cfg.window, center=cfg.center,
                                           n_mels=cfg.n_mels, fmin=cfg.fmin, fmax=cfg.fmax, htk=cfg.htk, norm=cfg.norm)
    np.testing.assert_allclose(mel_power(y, cfg), power.T, rtol=1e-4, atol=1e-12)
    ours = log_mel(y, cfg)
    np.testing.assert_allclose(ours, np.log(np.maximum(power, cfg.amin)).T, atol=1e-4)
    theirs = librosa.feature.mfcc(S=librosa.power_to_db(power), n_mfcc=cfg.n_mfcc).T
    np.testing.assert_allclose(mfcc(ours, cfg), theirs, atol=1e-3)


def test_features_of_real_recordings_are_librosas(shared_data):
    table = load_recordings(shared_data / "birds")
    for path in table.path[::12]:
        y, sr = librosa.load(path, sr=22050)
        made = extract(path)
        np.testing.assert_allclose(made["spectrogram"], np.log(np.maximum(librosa.feature.melspectrogram(y=y, sr=sr), 1e-10)).T, atol=1e-4)
        np.testing.assert_allclose(made["mfcc"], librosa.feature.mfcc(y=y, sr=sr).T, atol=1e-3)


def little_corpus(folder, n=12):
    "Table of `n` short wave files of different lengths and rates."
    paths = [folder / f"r{i:02d}.wav" for i in range(n)]
    for i, path in enumerate(paths): sf.write(path, tone(0.3 + 0.2 * i, [22050, 44100, 32000][i % 3], 1000 + 100 * i), [22050, 44100, 32000][i % 3])
    return pd.DataFrame({"recording_id": [p.stem for p in paths], "path": list(map(str, paths))})


def bytes_of(folder):
    "Names and contents of a store's files."
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir()) if p.name != ".lock"}


def test_store_is_the_same_whatever_the_number_of_workers(tmp_path):
    table = little_corpus(tmp_path)
    stores = [build_store(table, FeatureConfig(), tmp_path / f"store{jobs}", jobs, progress=False) for jobs in (1, 4)]
    assert bytes_of(stores[0].folder) == bytes_of(stores[1].folder)
    for row in table.itertuples():
        one = extract(row.path)
        for feature in ("spectrogram", "mfcc"): np.testing.assert_array_equal(stores[0][row.recording_id][feature], one[feature])


def test_odd_files_are_quarantined_with_reasons(odd_files, tmp_path):
    folder, expected = odd_files
    table = pd.DataFrame({"recording_id": list(expected), "path": [str(folder / name) for name in expected]})
    store = build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    assert set(store.index.index) == {name for name, (v, _) in expected.items() if v == "usable"}
    found = store.quarantine.set_index("recording_id").verdict.to_dict()
    assert found == {name: v for name, (v, _) in expected.items() if v != "usable"} and (store.quarantine.reason != "").all()


def test_nothing_usable_is_an_error_naming_a_file(tmp_path):
    (tmp_path / "a.mp3").write_text("no")
    with pytest.raises(ValueError, match=r"None of the 1 recordings can be used.*a\.mp3"):
        build_store(pd.DataFrame({"recording_id": ["a"], "path": [str(tmp_path / "a.mp3")]}), FeatureConfig(), tmp_path / "store", progress=False)


def test_statistics_are_those_of_the_values(demo):
    from avianspec.preprocessing import open_run
    table, split, store = open_run(demo)
    some = table.recording_id[split.recordist == "train"]
    values = np.concatenate([store[i]["spectrogram"] for i in some]).astype(np.float64)
    found = store.statistics(some)["spectrogram"]
    assert found.count == values.size
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std()], rtol=1e-9)
    np.testing.assert_allclose(found.band_std, values.std(axis=0), rtol=1e-6)


SLOW_BUILD = """
import sys, time
import pandas as pd
from avianspec import preprocessing as p
real = p.extract
def slow(path, cfg):
    time.sleep(0.15)
    with open(sys.argv[3], "a") as log: log.write(path + "\\n")
    return real(path, cfg)
p.extract = slow
p.build_store(pd.read_csv(sys.argv[1]), p.FeatureConfig(), sys.argv[2], jobs=1, progress=False)
"""


def test_kill_and_resume_gives_the_same_store_and_repeats_nothing(tmp_path):
    table, log = little_corpus(tmp_path), tmp_path / "log"
    table.to_csv(tmp_path / "table.csv", index=False)
    command = [sys.executable, "-c", SLOW_BUILD, str(tmp_path / "table.csv"), str(tmp_path / "store"), str(log)]
    for n in (2, 6, 9):                             # killed after some recordings, three times
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not (log.exists() and len(log.read_text().splitlines()) >= n):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finished = {p.stem for p in (tmp_path / "store" / "parts").glob("[!.]*.npz")}
    assert finished and not (tmp_path / "store" / "config.json").exists()
    subprocess.run(command, check=True)
    worked = pd.Series(log.read_text().splitlines()).value_counts()
    assert worked.sum() <= len(table) + 3           # at most the recording under work is repeated at each kill
    build_store(table, FeatureConfig(), tmp_path / "undisturbed", progress=False)
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "undisturbed")


def test_a_store_without_its_end_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished feature store"): FeatureStore(tmp_path)


def test_byte_identical_copies_are_set_aside(tmp_path):
    from avianspec.preprocessing import open_run, prepare_run
    from avianspec.recordings import validate, write_table
    rows = []
    for i in range(12):
        path = tmp_path / f"r{i:02d}.wav"
        sf.write(path, tone(0.5, hz=1000 + 150 * (i if i != 7 else 3)), 22050)        # r07 is r03 again
        rows.append(dict(recording_id=path.stem, path=str(path), species=["Wren", "Tit"][i % 2]))
    table = validate(pd.DataFrame(rows))
    write_table(tmp_path / "run" / "recordings.csv", table)
    prepare_run(table, tmp_path / "run", tmp_path / "features", progress=False)
    quarantine = pd.read_csv(tmp_path / "run" / "quarantine.csv")
    assert list(quarantine.recording_id) == ["r07"] and list(quarantine.reason) == ["the same bytes as r03"]
    assert "r07" not in set(open_run(tmp_path / "run")[0].recording_id)


def test_a_part_cut_short_is_made_again(tmp_path):
    table = little_corpus(tmp_path, 3)
    whole = build_store(table, FeatureConfig(), tmp_path / "whole", progress=False)
    parts = tmp_path / "store" / "parts"
    parts.mkdir(parents=True)
    (parts / f"{whole.index.part.iloc[1]}.npz").write_bytes(b"PK\x03\x04 half a file")
    build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    assert bytes_of(tmp_path / "whole") == bytes_of(tmp_path / "store")
