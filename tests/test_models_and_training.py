"""Published parameter counts; training that is killed and resumed is the same training."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from avianspec.generator import WindowConfig
from avianspec.preprocessing import open_run
from avianspec.recordings import GROUPS, read_text_table

TRAIN = """
import sys
from pathlib import Path
from avianspec import training
from avianspec.generator import WindowConfig
run = Path(sys.argv[1])
cfg = training.TrainingConfig(epochs=6, batch_size=8, checkpoint_every=2)
table, split, store = training.open_run(run)
part = table[split.recordist == "train"][:16]
classes = sorted(set(table.species))
batches = training.part_generator(part, store, classes, store.statistics(part.recording_id), WindowConfig(), cfg, shuffle=True)
model, curve = training.train(cfg, batches, batches, Path(sys.argv[2]) / "state.npz", progress=False)
curve.to_csv(Path(sys.argv[2]) / "curve.csv", index=False)
model.save_weights(Path(sys.argv[2]) / "end.weights.h5")
"""


def weights(path):
    "All arrays of a weights file."
    import h5py
    found = {}
    with h5py.File(path) as f: f.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_published_parameter_counts():
    from avianspec.models import build_network
    assert build_network("v20", (128, 128, 1), 91).count_params() == 80_411
    assert build_network("v18", (128, 148, 1), 91).count_params() == 80_411
    with pytest.raises(ValueError, match="no network 'v99'; there are v16, v17, v18, v20"): build_network("v99", (128, 128, 1), 91)
    with pytest.raises(ValueError, match="does not fit windows of 16 frames"): build_network("v20", (16, 128, 1), 91)


def test_relu_after_pooling_is_the_published_block():
    from avianspec.models import build_network, keras
    layers = keras.layers
    ours = build_network("v20", (128, 128, 1), 5)
    block = lambda: [layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(3), layers.Dropout(0.2)]
    source = keras.Sequential([keras.Input((128, 128, 1)), *block(), *block(), *block(), layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax")])
    source.set_weights(ours.get_weights())
    x = np.random.default_rng(0).standard_normal((3, 128, 128, 1)).astype("float32")
    np.testing.assert_allclose(ours.predict_on_batch(x), source.predict_on_batch(x), atol=1e-6)


def test_killed_training_goes_on_as_if_nothing_had_happened(demo, tmp_path):
    for name in ("whole", "cut"): (tmp_path / name).mkdir()
    subprocess.run([sys.executable, "-c", TRAIN, str(demo), str(tmp_path / "whole")], check=True)
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(demo), str(tmp_path / "cut")])
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "state.npz").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "curve.csv").exists()
    subprocess.run([sys.executable, "-c", TRAIN, str(demo), str(tmp_path / "cut")], check=True)
    assert (tmp_path / "whole" / "curve.csv").read_bytes() == (tmp_path / "cut" / "curve.csv").read_bytes()
    a, b = (weights(tmp_path / name / "end.weights.h5") for name in ("whole", "cut"))
    assert a and a.keys() == b.keys()
    for name in a: np.testing.assert_array_equal(a[name], b[name])


def test_a_state_of_another_training_is_left_alone(demo, tmp_path):
    from avianspec.training import TrainingConfig, part_generator, train
    table, split, store = open_run(demo)
    part, classes = table[:8], sorted(set(table.species))
    def curve(cfg):
        batches = part_generator(part, store, classes, store.statistics(), WindowConfig(), cfg)
        return train(cfg, batches, None, tmp_path / "state.npz", progress=False)[1]
    first = curve(TrainingConfig(epochs=1, batch_size=4))
    other = curve(TrainingConfig(epochs=1, batch_size=4, seed=9))           # must not take up the first one's state
    assert len(other) == 1 and other.loss[0] != first.loss[0]
    longer = curve(TrainingConfig(epochs=2, batch_size=4, seed=9))          # goes on from the second
    assert longer.loss[0] == other.loss[0] and len(longer) == 2


def test_predictions_cover_every_test_recording_at_every_crop(trained):
    predictions, split = pd.read_parquet(trained / "predictions.parquet"), read_text_table(trained / "split.csv")
    for by in GROUPS:
        mine = predictions[predictions.split == by]
        for _, crop in mine.groupby("crop_seed"): assert sorted(crop.recording_id) == sorted(split.recording_id[split[by] == "test"])
    p = predictions.filter(regex=r"^p_\d+$").to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    from avianspec.recordings import read_json
    classes = read_json(trained / "model.json")["classes"]
    assert list(predictions.predicted) == [classes[k] for k in p.argmax(axis=1)] and classes == sorted(classes)


def test_the_network_learns_what_can_be_learned(trained):
    history = pd.read_csv(trained / "history.csv")
    for _, curve in history.groupby("stage"): assert curve.loss.iloc[-1] < curve.loss.iloc[0]
