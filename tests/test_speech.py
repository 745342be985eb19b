"""Speech: speakers on one side only, trainings that resume and are watched, a model that takes sound in any form."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT

from avianspec.studies.speech.recordings import DEMO, demo_speech, known_facts, open_speech, part_shards, prepare_speech
from avianspec.studies.speech.study import SpeechConfig, Watching, classify_sounds, run_speech, speech_settings

QUICK = DEMO | dict(network="mel_delta", epochs=2, batch_size=8, n_fft=512, hop_length=256, n_mels=24, fmin=50.0)
QUICK |= dict(fmax=4000.0, piece_frames=32, piece_hop=16, filters=(4, 4, 4, 8))
N = 24000  # samples of a mixture


def opened(run):
    "The demonstration run, what is learnt of it kept elsewhere."
    return replace(open_speech(demo_speech()), run=run)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "A finished run."
    run = tmp_path_factory.mktemp("speech") / "run"
    run_speech(opened(run), speech_settings(QUICK), progress=False, watching=Watching(run / "logs", every=2, n=4))
    return run


def speakers_of(rows):
    return {name for speakers in rows.speakers for name in speakers.split(" + ")}


def test_no_speaker_is_heard_on_two_sides_whatever_fold_is_tested(tmp_path):
    base, run = demo_speech().parent, tmp_path / "run"
    prepare_speech(base / "chatter", run, base / "stores", DEMO | dict(test_folds=4), progress=False)
    data, kept = open_speech(run), pd.read_csv(run / "recordings.csv").set_index("recording_id")
    tested = []
    for fold in data.folds("speaker"):
        of_fold = data.fold("speaker", fold, validation=True)
        heard = {}
        for part in ("train", "validation", "test"):
            ids = part_shards(of_fold, part=part).index.recording_id
            assert set(ids) == set(of_fold.part("speaker", part).recording_id)
            heard[part] = speakers_of(kept.loc[ids])
        assert not heard["train"] & heard["test"] and not heard["train"] & heard["validation"]
        assert not heard["test"] & heard["validation"] and len(heard["train"]) == 8
        tested += list(of_fold.part("speaker", "test").recording_id)
    assert sorted(tested) == sorted(data.items.recording_id)  # each mixture once
    assert len(speakers_of(kept)) == 16


def test_other_sentences_make_other_mixtures_and_the_same_ones_none(tmp_path):
    import shutil

    source, stores = tmp_path / "chatter", tmp_path / "stores"
    shutil.copytree(demo_speech().parent / "chatter", source)
    facts = []
    for k in range(3):
        if k == 2:
            path = sorted(source.rglob("*.flac"))[0]
            y, sr = sf.read(path)
            sf.write(path, y[::-1], sr)
        prepare_speech(source, tmp_path / "run", stores, DEMO | dict(n_mixtures=30), progress=False)
        facts.append((json.loads((tmp_path / "run" / "data.json").read_text())["sha256"], len(list(stores.iterdir()))))
    assert facts[0] == facts[1] and facts[2][0] != facts[0][0] and [n for _, n in facts] == [1, 1, 2]


def test_a_training_cut_off_and_started_again_gives_the_same_numbers(trained, tmp_path):
    from avianspec.learning.models import keras
    from avianspec.studies.speech.study import train_network

    data = opened(tmp_path / "halted")
    train_network(data, speech_settings(QUICK | dict(epochs=1)), progress=False)
    model, history = train_network(data, speech_settings(QUICK), progress=False)
    assert len(history) == 2 and history.round(6).equals(pd.read_csv(trained / "history.csv").round(6))
    whole = keras.models.load_model(trained / "model.keras", compile=False)
    for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_weights_of_the_best_epoch_are_kept_and_patience_ends_a_training(tmp_path, monkeypatch):
    from avianspec.studies.speech import study

    losses, weights = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0]), []

    def fit_epoch(model, shards, data, training, epoch, watch):
        model.set_weights([np.full_like(w, epoch) for w in model.get_weights()])
        weights.append(epoch)
        return dict(epoch=epoch, loss=1.0, accuracy=0.5, val_loss=next(losses), val_accuracy=0.5)

    monkeypatch.setattr(study, "_fit_epoch", fit_epoch)
    cfg = speech_settings(QUICK | dict(epochs=6, patience=2))
    model, history = study.train_network(opened(tmp_path / "run"), cfg, progress=False)
    assert weights == [0, 1, 2, 3] and len(history) == 4
    assert {float(v) for w in model.trainable_weights for v in np.asarray(w).ravel()} == {1.0}


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    return {
        tag: [(e.step, make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)] for tag in events.Tags()["tensors"]
    }


def test_tensorboard_holds_curves_reports_and_pictures_of_both_parts(trained):
    import io

    from PIL import Image

    events, history = read_events(trained / "logs"), pd.read_csv(trained / "history.csv")
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(events)
    np.testing.assert_allclose([v for _, v in events["val_loss"]], history.val_loss, atol=1e-5)
    for part in ("train", "validation"):
        (step, text), *_ = events[f"{part}/report"]
        assert step == 1 and text[0].startswith(b"| class | precision | recall | F1 | clips |")
        (step, (width, height, png)), *more = events[f"{part}/confusion"]
        picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        assert step == 1 and not more and picture.shape == (int(height), int(width), 3) and picture.std() > 10


def test_a_cut_off_shard_is_named_and_refused_before_training_begins(tmp_path, monkeypatch):
    import shutil

    from avianspec.files import read_json, write_json
    from avianspec.studies.speech import study

    run = tmp_path / "run"
    shutil.copytree(demo_speech(), run)
    noted = read_json(run / "shards.json")
    shutil.copytree(noted["folder"], tmp_path / "shards")
    write_json(run / "shards.json", noted | dict(folder=str(tmp_path / "shards")))
    path = next((tmp_path / "shards").glob("*_train.tfrecords"))
    raw = bytearray(path.read_bytes())
    monkeypatch.setattr(study, "built_network", lambda *x: pytest.fail("a network was built"))
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)  # altered
    with pytest.raises(ValueError, match=path.name):
        study.train_network(open_speech(run), speech_settings(QUICK), progress=False)
    path.write_bytes(raw[:-100])  # cut off
    with pytest.raises(ValueError, match=f"{path.name} is cut off"):
        study.train_network(open_speech(run), speech_settings(QUICK), progress=False)


@pytest.mark.parametrize("form", ["speech.tflite", "speech.onnx", "speech"])
def test_every_form_of_the_saved_model_takes_sound_and_gives_the_same(form, trained, tmp_path):
    from avianspec.learning.export import export_model
    from avianspec.learning.saved_model import load_saved_model

    if form.endswith("onnx") and not all(map(importlib.util.find_spec, ("onnxruntime", "onnx"))):
        pytest.skip("onnxruntime is not installed")
    saved = load_saved_model(trained)
    assert (saved.kind, saved.window_s, saved.front_end.sr) == ("samples", 3.0, 8000)
    shards = part_shards(opened(trained), part="test")
    x = np.stack([shards[k][1] for k in range(3)])[..., None]
    facts = export_model(saved, tmp_path / form, check={"samples": x})
    assert facts["inputs"][0]["shape"] == [1, N, 1] and facts["agreement"]["n_windows"] == 3
    assert facts["agreement"]["largest_difference"] < 1e-4 and facts["agreement"]["same_first"] == 1
    if form.endswith("tflite"):  # `export_model` refuses what LiteRT does not have
        assert not [name for name in facts["operations"] if "FLEX" in name.upper() or name == "CUSTOM"]


def test_sixty_seconds_of_raw_audio_in_probabilities_out():
    from avianspec.learning.tasks import Task
    from avianspec.runs.catalogue import load_catalogue
    from avianspec.studies.speech.networks import build_speech_network

    entry = load_catalogue()["speech-published"]
    cfg = speech_settings(entry.parameters)
    model = build_speech_network("mel_delta", 1_323_000, Task(("F", "M")), cfg.front, piece_frames=64, piece_hop=32)
    p = model.predict_on_batch(np.zeros((1, 1_323_000, 1), np.float32))
    assert p.shape == (1, 2) and abs(p.sum() - 1) < 1e-5
    assert entry.published == dict(accuracy=0.9583, loss=0.3812) and isinstance(cfg, SpeechConfig)


def test_the_second_channel_is_the_slope_of_the_first():
    import librosa

    from avianspec.learning.models import keras
    from avianspec.studies.speech.networks import mel_and_delta

    given, y = keras.Input((N, 1)), np.random.default_rng(0).normal(0, 0.1, (1, N, 1)).astype(np.float32)
    two = np.asarray(keras.Model(given, mel_and_delta(given, speech_settings(QUICK).front)).predict_on_batch(y))[0]
    assert two.shape == (94, 24, 2) and two[..., 0].std() > 0.02
    np.testing.assert_allclose(two[..., 1], librosa.feature.delta(two[..., 0], axis=0), atol=1e-5)


def test_a_file_is_classified_as_in_the_run_at_any_rate_and_no_other_length(trained, tmp_path):
    data, kept = opened(trained), pd.read_parquet(trained / "predictions.parquet").set_index("recording_id")
    row = data.part("speaker", "test").iloc[0]
    said = classify_sounds(trained, [row.path]).iloc[0]
    assert said.predicted == kept.predicted[row.recording_id]
    np.testing.assert_allclose(
        said[data.classes].to_numpy(float), kept.loc[row.recording_id, ["p_0", "p_1"]].to_numpy(float), atol=1e-5
    )
    y, _ = sf.read(row.path)
    sf.write(tmp_path / "fast.wav", np.repeat(y, 2), 16000)
    assert classify_sounds(trained, [tmp_path / "fast.wav"]).shape == (1, 4)
    sf.write(tmp_path / "short.wav", y[:-1], 8000)
    with pytest.raises(ValueError, match="short.wav has 3.000 s"):
        classify_sounds(trained, [tmp_path / "short.wav"])


def test_baselines_learn_nothing_from_what_is_tested():
    from avianspec.studies.speech.baselines import speech_baselines

    data = open_speech(demo_speech())
    hidden = data.splits.speaker != "train"
    other = data.items.assign(label=data.items.label.where(~hidden, data.items.label.map({"F": "M", "M": "F"})))
    facts, spoilt = known_facts(data), known_facts(data).copy()
    clean, poisoned = (speech_baselines(d, facts) for d in (data, replace(data, items=other)))
    assert clean.predicted.tolist() == poisoned.predicted.tolist()
    spoilt.loc[data.items.recording_id[hidden]] = 300.0
    of_train = [speech_baselines(data, f).query("part == 'train'").predicted.tolist() for f in (facts, spoilt)]
    assert of_train[0] == of_train[1]


def test_weights_and_biases_is_offline_without_a_key_and_is_told_every_epoch(tmp_path, monkeypatch):
    from avianspec.studies.speech import monitoring
    from avianspec.studies.speech.study import train_network

    asked, told = [], []
    fake = ModuleType("wandb")
    fake.__spec__ = importlib.util.spec_from_loader("wandb", None)
    tracker = SimpleNamespace(log=lambda values, step: told.append(step), finish=lambda: told.append("end"))
    fake.init = lambda **how: asked.append(how) or tracker
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run = tmp_path / "run"
    watching = Watching(run / "logs", every=0, project="speech")
    train_network(opened(run), speech_settings(QUICK), progress=False, watching=watching)
    assert told == [0, 1, "end"] and asked[0]["mode"] == "offline" and asked[0]["project"] == "speech"
    assert asked[0]["config"]["front"]["n_mels"] == 24  # the settings are kept with it
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monitoring.open_tracker("speech", "one", {}, tmp_path)
    assert asked[-1]["mode"] == "online"


def test_other_backends_get_the_same_mixtures(monkeypatch):
    from avianspec.learning.models import keras
    from avianspec.studies.speech.study import epoch_data

    data = open_speech(demo_speech())
    shards = part_shards(data, part="test")
    ours, none = epoch_data(shards, data.task, 4, 0, -1)
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    theirs, steps = epoch_data(shards, data.task, 4, 0, -1)
    pairs = list(zip(ours.as_numpy_iterator(), theirs, strict=True))
    assert none is None and len(pairs) == steps
    for (x, y), (x2, y2) in pairs:
        np.testing.assert_allclose(x, x2, atol=1e-7)
        assert y.tolist() == y2.tolist()


MANY = """
import sys
import tensorflow as tf
cpu, two = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from dataclasses import replace
from pathlib import Path
from avianspec.studies.speech import monitoring
from avianspec.studies.speech.recordings import demo_speech, open_speech
from avianspec.studies.speech.study import speech_settings, train_network
from test_speech import QUICK
one = monitoring.training_strategy
monitoring.training_strategy = lambda: one(["CPU:0", "CPU:1"])
data = replace(open_speech(demo_speech()), run=Path(sys.argv[1]))
_, history = train_network(data, speech_settings(QUICK | dict(epochs=1)), progress=False)
print("LOSS", history.val_loss[0])
"""


def test_a_training_is_shared_between_many_devices(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path / "run")], capture_output=True, encoding="utf-8", cwd=ROOT / "tests"
    )
    assert "LOSS" in done.stdout, done.stderr[-2000:]
    assert 0 < float(done.stdout.rpartition("LOSS")[2]) < 50
