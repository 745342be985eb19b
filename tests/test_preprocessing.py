"""The store survives odd files, kills, lost workers, full disks and changes."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.stores import preprocessing
from avianspec.sound.features import FeatureConfig, extract
from avianspec.stores.preprocessing import FeatureStore, build_store, prepare_run
from avianspec.learning.dataset import open_run


def little_corpus(folder, n=12):
    "Table of `n` short wave files of different lengths and rates."
    paths = [folder / f"r{i:02d}.wav" for i in range(n)]
    for i, path in enumerate(paths):
        sf.write(path, tone(0.3 + 0.2 * i, [22050, 44100, 32000][i % 3], 1000 + 100 * i), [22050, 44100, 32000][i % 3])
    return pd.DataFrame({"recording_id": [p.stem for p in paths], "path": list(map(str, paths))})


def bytes_of(folder):
    "Names and contents of a store's files."
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def test_store_is_the_same_whatever_the_number_of_workers(tmp_path):
    table = little_corpus(tmp_path)
    stores = [build_store(table, FeatureConfig(), tmp_path / f"store{jobs}", jobs, progress=False) for jobs in (1, 4)]
    assert bytes_of(stores[0].folder) == bytes_of(stores[1].folder)
    for row in table.itertuples():
        one = extract(row.path)
        for feature in ("spectrogram", "mfcc"):
            np.testing.assert_array_equal(stores[0][row.recording_id][feature], one[feature])


def test_odd_files_are_quarantined_with_reasons(odd_files, tmp_path):
    folder, expected = odd_files
    table = pd.DataFrame({"recording_id": list(expected), "path": [str(folder / name) for name in expected]})
    store = build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    assert set(store.index.index) == {name for name, (v, _) in expected.items() if v == "usable"}
    found = store.quarantine.set_index("recording_id").verdict.to_dict()
    assert (
        found == {name: v for name, (v, _) in expected.items() if v != "usable"}
        and (store.quarantine.reason != "").all()
    )


def test_nothing_usable_is_an_error_naming_a_file(tmp_path):
    (tmp_path / "a.mp3").write_text("no")
    with pytest.raises(ValueError, match=r"None of the 1 recordings can be used.*a\.mp3"):
        build_store(
            pd.DataFrame({"recording_id": ["a"], "path": [str(tmp_path / "a.mp3")]}),
            FeatureConfig(),
            tmp_path / "store",
            progress=False,
        )


def test_statistics_are_those_of_the_values(demo):
    dataset = open_run(demo)
    table, split, store = dataset.items, dataset.splits, dataset.store
    some = table.recording_id[split.recordist == "train"]
    values = np.concatenate([store[i]["spectrogram"] for i in some]).astype(np.float64)
    found = store.statistics(some)["spectrogram"]
    assert found.count == values.size
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std()], rtol=1e-9)
    np.testing.assert_allclose(found.band_std, values.std(axis=0), rtol=1e-6)


KILLS = """
import json, os, random, signal, sys, time
from pathlib import Path
import pandas as pd
from avianspec.stores import preprocessing as p
table, store, log = pd.read_csv(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
real, parts = p.extract_into, store / "parts"
def logged(path, *rest):
    with open(log, "a") as f: f.write(path + "\\n")
    return real(path, *rest)
began = time.monotonic()
p.build_store(table, p.FeatureConfig(), sys.argv[4], progress=False)            # undisturbed
whole_s, p.extract_into, rng = time.monotonic() - began, logged, random.Random(1)
before, again, unfinished, names = set(), [], 0, {}
for path in table.path: names[path] = f"{p.file_sha256(path)}-{p.FeatureConfig().key}-{p.feature_code()}"
for k in range(20):
    log.write_text("")
    child = os.fork()
    if not child:
        p.build_store(table, p.FeatureConfig(), store, progress=False)
        os._exit(0)
    time.sleep(rng.uniform(0.01, whole_s / 12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    again += [path for path in log.read_text().splitlines() if names[path] in before]
    before = {f.stem for f in parts.glob("[!.]*.npz")} if parts.exists() else before
    unfinished += not (store / "config.json").exists()
log.write_text("")
p.build_store(table, p.FeatureConfig(), store, progress=False)
again += [path for path in log.read_text().splitlines() if names[path] in before]
print(json.dumps(dict(again=again, unfinished=unfinished, finished=len(before))))
"""


def test_twenty_kills_give_the_same_store_and_repeat_nothing(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for i in range(300):
        path = tmp_path / f"r{i:03d}.wav"
        sf.write(path, 0.1 * rng.standard_normal(rng.integers(2000, 120000)), 44100)
        rows.append(dict(recording_id=path.stem, path=str(path)))
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    arguments = [str(tmp_path / n) for n in ("table.csv", "store", "log", "undisturbed")]
    done = subprocess.run([sys.executable, "-c", KILLS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["again"] == [] and told["unfinished"] > 5 and told["finished"] > 30
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "undisturbed")


def test_a_cluster_that_loses_a_worker_makes_the_same_store(tmp_path):
    from distributed import LocalCluster

    table = little_corpus(tmp_path, 40)
    build_store(table, FeatureConfig(), tmp_path / "threads", progress=False)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        lost = threading.Timer(0.3, lambda: os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL))
        lost.start()
        build_store(table, FeatureConfig(), tmp_path / "cluster", progress=False, scheduler=cluster.scheduler_address)
        lost.join()
    assert bytes_of(tmp_path / "threads") == bytes_of(tmp_path / "cluster")


def test_two_processes_on_one_store_do_not_harm_each_other(tmp_path):
    table = little_corpus(tmp_path, 30)
    table.to_csv(tmp_path / "table.csv", index=False)
    code = "import sys, pandas as pd; from avianspec.stores.preprocessing import *; from avianspec.sound.features import FeatureConfig; build_store(pd.read_csv(sys.argv[1]), FeatureConfig(), sys.argv[2], progress=False)"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "table.csv"), str(tmp_path / "store")])
        for _ in range(2)
    ]
    assert [p.wait() for p in both] == [0, 0]
    build_store(table, FeatureConfig(), tmp_path / "alone", progress=False)
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "alone")


def full_disk_after(n, monkeypatch):
    "Let the disk be full after `n` recordings."
    real, count = preprocessing.extract_into, iter(range(10**6))

    def extract_into(path, cfg, spectrogram, mfcc):
        if next(count) >= n:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, cfg, spectrogram, mfcc)

    monkeypatch.setattr(preprocessing, "extract_into", extract_into)


def test_a_full_disk_is_said_in_words_and_loses_nothing(tmp_path, monkeypatch):
    table = little_corpus(tmp_path)
    with monkeypatch.context() as patch:
        full_disk_after(5, patch)
        with pytest.raises(
            OSError, match="The disk is full .* Free some space and start again: recordings already done are kept"
        ):
            build_store(table, FeatureConfig(), tmp_path / "store", 1, progress=False)
    assert len(list((tmp_path / "store" / "parts").glob("*.npz"))) == 5 and not list(
        (tmp_path / "store" / "parts").glob(".*")
    )
    build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    build_store(table, FeatureConfig(), tmp_path / "other", progress=False)
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "other")


def test_a_full_disk_leaves_the_older_store_usable(tmp_path, monkeypatch):
    table = little_corpus(tmp_path)
    before = build_store(table[:8], FeatureConfig(), tmp_path / "store", progress=False)["r03"]["mfcc"].copy()
    with monkeypatch.context() as patch:
        full_disk_after(1, patch)
        with pytest.raises(OSError, match="disk is full"):
            build_store(table, FeatureConfig(), tmp_path / "store", 1, progress=False)
    old = FeatureStore(tmp_path / "store")
    assert len(old) == 8 and np.array_equal(old["r03"]["mfcc"], before)
    assert len(build_store(table, FeatureConfig(), tmp_path / "store", progress=False)) == 12


def test_only_what_changed_is_computed_again(tmp_path, monkeypatch):
    table, seen, real = little_corpus(tmp_path), [], preprocessing.extract_into
    monkeypatch.setattr(
        preprocessing, "extract_into", lambda path, *rest: (seen.append(Path(path).stem), real(path, *rest))[1]
    )
    build = lambda t, cfg=FeatureConfig(), where="store": build_store(t, cfg, tmp_path / where, progress=False)
    build(table)
    assert len(seen) == 12 and len(build(table)) == 12 and len(seen) == 12  # nothing the second time
    sf.write(table.path[4], tone(0.7, hz=3000), 22050)
    os.rename(table.path[0], tmp_path / "moved.wav")
    table.loc[0, "path"] = str(tmp_path / "moved.wav")
    store = build(table[:11])
    assert seen[12:] == ["r04"] and len(store) == 11 and "r11" not in store
    build(table[:11], FeatureConfig(n_mels=64), "other")
    assert len(seen) == 13 + 11


def test_a_store_of_other_settings_is_refused_with_both_keys(tmp_path):
    table, other = little_corpus(tmp_path, 2), FeatureConfig(n_mels=64)
    build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    for attempt in (
        lambda: build_store(table, other, tmp_path / "store"),
        lambda: FeatureStore(tmp_path / "store", other),
    ):
        with pytest.raises(
            ValueError, match=f"(?s){FeatureConfig().key}, not {other.key}.*'n_mels': 128.*'n_mels': 64"
        ):
            attempt()


def test_parts_of_other_settings_are_not_taken(tmp_path):
    table = little_corpus(tmp_path, 3)
    preprocessing.make_parts(
        list(table.path), FeatureConfig(n_fft=1024), tmp_path / "store" / "parts", progress=False
    )  # then killed
    store = build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    np.testing.assert_array_equal(store["r01"]["mfcc"], extract(table.path[1])["mfcc"])


@pytest.mark.parametrize(
    "cfg",
    [
        FeatureConfig(dtype="float16"),
        FeatureConfig(bands="linear", n_fft=512, hop_length=256, window="hamming"),
        FeatureConfig(scale="pcen"),
    ],
    ids=lambda c: f"{c.bands}-{c.scale}-{c.dtype}",
)
def test_every_front_end_can_be_stored(cfg, tmp_path):
    table = little_corpus(tmp_path, 4)
    store = build_store(table, cfg, tmp_path / "store", progress=False)
    one = extract(table.path[2], cfg)
    assert store.spectrogram.dtype == cfg.dtype and store.spectrogram.shape[1] == cfg.n_bands
    for feature in ("spectrogram", "mfcc"):
        np.testing.assert_array_equal(store["r02"][feature], one[feature])
    np.testing.assert_array_equal(store["r02", 3:9]["mfcc"], one["mfcc"][3:9])
    np.testing.assert_allclose(
        store.statistics()["spectrogram"].mean, store.spectrogram.astype(float).mean(), atol=1e-2
    )


def test_real_birds_end_up_as_when_done_one_by_one(shared_data, tmp_path):
    from avianspec.data.layouts import load_recordings

    table = load_recordings(shared_data / "birds")
    store = build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    assert len(store) == 110 and not len(store.quarantine)
    for row in table.itertuples():
        one = extract(row.path)
        for feature in ("spectrogram", "mfcc"):
            np.testing.assert_array_equal(store[row.recording_id][feature], one[feature])


def test_a_store_without_its_end_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished feature store"):
        FeatureStore(tmp_path)


def test_byte_identical_copies_are_set_aside(tmp_path):
    from avianspec.data.recordings import validate
    from avianspec.files import write_table

    rows = []
    for i in range(12):
        path = tmp_path / f"r{i:02d}.wav"
        sf.write(path, tone(0.5, hz=1000 + 150 * (i if i != 7 else 3)), 22050)  # r07 is r03 again
        rows.append(dict(recording_id=path.stem, path=str(path), label=["Wren", "Tit"][i % 2]))
    table = validate(pd.DataFrame(rows))
    write_table(tmp_path / "run" / "recordings.csv", table)
    prepare_run(table, tmp_path / "run", tmp_path / "features", progress=False)
    quarantine = pd.read_csv(tmp_path / "run" / "quarantine.csv")
    assert list(quarantine.recording_id) == ["r07"] and list(quarantine.reason) == ["the same bytes as r03"]
    assert "r07" not in set(open_run(tmp_path / "run").items.recording_id)


def test_a_part_cut_short_is_made_again(tmp_path):
    table = little_corpus(tmp_path, 3)
    whole = build_store(table, FeatureConfig(), tmp_path / "whole", progress=False)
    parts = tmp_path / "store" / "parts"
    parts.mkdir(parents=True)
    (parts / f"{whole.index.part.iloc[1]}.npz").write_bytes(b"PK\x03\x04 half a file")
    build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    assert bytes_of(tmp_path / "whole") == bytes_of(tmp_path / "store")


def test_one_recording_too_short_for_a_frame_does_not_stop_the_others(tmp_path):
    table = little_corpus(tmp_path, 3)
    sf.write(table.path[1], tone(0.02), 22050)
    store = build_store(table, FeatureConfig(center=False), tmp_path / "store", progress=False)
    assert list(store.index.index) == ["r00", "r02"] and "at least n_fft = 2048" in store.quarantine.reason[0]


def test_a_path_that_cannot_even_be_looked_at_is_quarantined(tmp_path):
    table = little_corpus(tmp_path, 2)
    table.loc[1, "path"] = str(
        tmp_path / ("x" * 300 + ".wav")
    )  # too long a name: looking at it raises, as in a locked folder
    store = build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    assert list(store.quarantine.recording_id) == ["r01"] and store.quarantine.reason[0].startswith("no such file")


@pytest.mark.parametrize(
    "kept, off",
    [
        (dict(scale="power"), 1e-3),
        (dict(scale="pcen"), 1.5),
        (dict(bands="linear"), 1.5),
        (dict(dtype="float16"), 0.01),
    ],
    ids=str,
)
def test_log_mel_can_be_had_of_every_store(kept, off, tmp_path):
    path = tmp_path / "noise.wav"  # white noise has a smooth spectrum, which twenty MFCCs hold
    sf.write(path, 0.1 * np.random.default_rng(0).standard_normal(44100), 22050, subtype="FLOAT")
    table = pd.DataFrame({"recording_id": ["a"], "path": [str(path)]})
    store = build_store(table, FeatureConfig(**kept), tmp_path / "store", progress=False)
    assert np.abs(store.log_mel("a") - extract(path)["spectrogram"]).mean() < off


def test_a_scheduler_that_does_not_answer_is_named(tmp_path):
    with pytest.raises(ValueError, match="No dask scheduler answers at 'nonsense'.*dask scheduler"):
        build_store(
            little_corpus(tmp_path, 1), FeatureConfig(), tmp_path / "store", scheduler="nonsense", progress=False
        )


def test_a_store_opened_while_another_process_renews_it_is_the_newer_one(tmp_path, monkeypatch):
    table = little_corpus(tmp_path, 3)
    build_store(table.iloc[:2], FeatureConfig(), tmp_path / "store", progress=False)
    true, left = preprocessing.read_json, [1]

    def renewed_after_the_look(path):
        saved = true(path)
        if left and left.pop():
            build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
        return saved

    monkeypatch.setattr(preprocessing, "read_json", renewed_after_the_look)
    assert len(FeatureStore(tmp_path / "store")) == 3
