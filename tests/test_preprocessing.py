"""Stores of features: the numbers of each recording, and statistics of any of them."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import little_corpus, tone

from avianspec.sound.features import FeatureConfig, extract
from avianspec.stores.preprocessing import build_store, prepare_run
from avianspec.learning.dataset import open_run


def test_a_store_holds_the_features_of_each_recording(tmp_path):
    table = little_corpus(tmp_path)
    store = build_store(table, FeatureConfig(), tmp_path / "store", progress=False)
    for row in table.itertuples():
        one = extract(row.path)
        for feature in ("spectrogram", "mfcc"):
            np.testing.assert_array_equal(store[row.recording_id][feature], one[feature])


def test_statistics_are_those_of_the_values(demo):
    dataset = open_run(demo)
    table, split, store = dataset.items, dataset.splits, dataset.store
    some = table.recording_id[split.recordist == "train"]
    values = np.concatenate([store[i]["spectrogram"] for i in some]).astype(np.float64)
    found = store.statistics(some)["spectrogram"]
    assert found.count == values.size
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std()], rtol=1e-9)
    np.testing.assert_allclose(found.band_std, values.std(axis=0), rtol=1e-6)


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


def test_one_recording_too_short_for_a_frame_does_not_stop_the_others(tmp_path):
    table = little_corpus(tmp_path, 3)
    sf.write(table.path[1], tone(0.02), 22050)
    store = build_store(table, FeatureConfig(center=False), tmp_path / "store", progress=False)
    assert list(store.index.index) == ["r00", "r02"] and "at least n_fft = 2048" in store.quarantine.reason[0]


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
