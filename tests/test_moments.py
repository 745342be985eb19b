"""A framewise network in the field: events where they are, however long the blocks, from a file, a run and a stream."""

from dataclasses import asdict

import numpy as np
import pytest
import soundfile as sf

from avianspec.field import live, windows
from avianspec.field.detections import EventConfig
from avianspec.field.inference import identify, window_probabilities
from avianspec.field.tag import tag
from avianspec.learning.export import export_model
from avianspec.learning.listeners import ListenerConfig, train_listener
from avianspec.learning.residual import ResidualConfig
from avianspec.learning.saved_model import SavedModel, load_saved_model, save_model
from avianspec.learning.tasks import Task
from avianspec.sound.features import log_mel
from avianspec.sound.whitening import FINE

SMALL = ResidualConfig(
    window_s=4.0, filters=(4, 4, 4, 8), n_head=8, steps=120, batch_size=8, learning_rate=0.01, loss="binary", n_masks=1
)
EVENTS = EventConfig(smooth=5, gap_s=0.3, least_s=0.2)
SUNG = [(1.0, "low"), (4.0, "high"), (9.0, "low"), (10.2, "high")]  # each for half a second
LENGTH = 13.33  # seconds


def whistles(sung, seconds, seed=0):
    t = np.arange(int(seconds * FINE.sr)) / FINE.sr
    y = 0.003 * np.random.default_rng(seed).standard_normal(len(t))
    for begin, label in sung:
        shape = np.clip(np.minimum(t - begin, begin + 0.5 - t) / 0.02, 0, 1)
        y += 0.1 * shape * np.sin(2 * np.pi * dict(low=2000, high=5000)[label] * t)
    return y.astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("framewise")
    names = ["low", "high"] * 6
    begins = [rng.permutation(np.arange(0.5, 7, 1.2))[:2] for _ in names]
    heard = [
        log_mel(whistles([(b, n) for b in two], 8, k), FINE)
        for k, (n, two) in enumerate(zip(names, begins, strict=True))
    ]
    cfg = ListenerConfig(None, None, SMALL)
    model = train_listener(heard, [{name} for name in names], names, cfg, progress=False)
    saved = SavedModel(model, Task(model.classes), "listener", FINE, network=model.name, split="recordist")
    save_model(folder / "model.npz", saved)
    sf.write(folder / "dawn.wav", whistles(SUNG, LENGTH, 99), FINE.sr, subtype="FLOAT")
    return folder


def right(found):
    "Every event begins and ends within three moments (120 ms) of the whistle, and nothing else is found."
    assert found.label.tolist() == [label for _, label in SUNG]
    begins = np.array([begin for begin, _ in SUNG])
    assert np.abs(found.start_s - begins).max() < 0.125 and np.abs(found.end_s - begins - 0.5).max() < 0.125


def test_tag_finds_events_where_they_are(run, tmp_path):
    right(tag([run / "dawn.wav"], run, tmp_path / "out", EVENTS, progress=False).detections)


def test_what_is_loaded_answers_as_what_was_trained(run):
    saved = load_saved_model(run)
    assert saved.framewise and saved.model.name == "framewise" and asdict(saved.model.cfg)["dictionary"] is None
    save_model(run / "again.npz", saved)
    x = log_mel(whistles(SUNG, LENGTH, 99), FINE)
    one, two = (load_saved_model(run / f"{name}.npz").model.windows_of(x) for name in ("model", "again"))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
    assert len(one[0]) == 334 == -(-len(x) // 4) and one[1][:2].tolist() == [[0, 3], [4, 7]]


@pytest.mark.parametrize("stretch_s", [4.0, 5.6, 8.0])
def test_no_moment_is_lost_or_told_twice_where_stretches_meet(run, monkeypatch, stretch_s):
    monkeypatch.setattr("avianspec.learning.residual.whitened", lambda x, *how: np.clip(x + 7, 0, 7).astype(np.float32))
    whole = window_probabilities(load_saved_model(run), run / "dawn.wav")[0]
    monkeypatch.setattr(windows, "STRETCH_S", stretch_s)
    cut = window_probabilities(load_saved_model(run), run / "dawn.wav")[0]  # the same background everywhere
    assert cut.start_s.tolist() == whole.start_s.tolist() and len(whole) == 334
    np.testing.assert_allclose(cut.iloc[:, 2:], whole.iloc[:, 2:], atol=1e-4)


def test_identify_names_both_and_says_when(run):
    said = identify(load_saved_model(run), run / "dawn.wav", top=2).set_index("label")
    assert said.probability.sum() == pytest.approx(1) and said.probability.min() > 0.3
    spans = [tuple(map(float, s.split("-"))) for s in said.spans["low"].split()]
    assert all(any(abs(a - b) < 0.6 for b in (1.0, 9.0)) for a, _ in spans) and len(spans) >= 2
    p = load_saved_model(run).model.predict_recording(log_mel(whistles(SUNG, LENGTH, 99), FINE))
    np.testing.assert_allclose(said.probability[list(load_saved_model(run).classes)], p, atol=0.02)


@pytest.mark.parametrize("block", [3000, 16000])
def test_a_stream_gets_every_moment_once_and_in_order(run, monkeypatch, block):
    monkeypatch.setattr(live, "CONTEXT_S", 8.0)  # so that its beginning is forgotten before its end
    y, saved = whistles(SUNG, LENGTH, 99), load_saved_model(run)
    told = list(live.live_answers(saved, (y[k : k + block] for k in range(0, len(y), block)), FINE.sr))
    ends, p = np.array([end for end, _ in told]), np.stack([p for _, p in told])
    np.testing.assert_allclose(np.diff(ends)[:-1], 0.04, atol=1e-9)
    assert ends[0] == pytest.approx(0.04) and ends[-1] == pytest.approx(LENGTH, abs=0.05)
    for begin, label in SUNG:
        inside = (ends > begin + 0.1) & (ends < begin + 0.5)
        assert p[inside, saved.classes.index(label)].mean() > 0.5


def test_it_listens_alone_and_is_not_exported(run, tmp_path):
    with pytest.raises(ValueError, match="listens alone"):
        ListenerConfig(framewise=SMALL)
    with pytest.raises(ValueError, match="A framewise network answers for moments"):
        export_model(load_saved_model(run), tmp_path / "m.tflite")
