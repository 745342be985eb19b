"""Batches against a slow, obvious loop."""

import numpy as np
import pytest

from avianspec.learning.dataset import open_run
from avianspec.learning.generator import AudioFeatureGenerator, as_dataset, loud_frames, part_generator
from avianspec.learning.predictions import predict_crops, probabilities_of
from avianspec.learning.settings import COMBINE, CROP_SEED, SHORT, TrainingConfig, WindowConfig
from avianspec.learning.tasks import Task
from avianspec.sound.augmentation import Augmentation, augment


def slow_window(store, recording_id, offset, cfg, statistics):
    "A window frame by frame."
    features = store[recording_id]
    mel, cepstra = (
        (np.asarray(features[f], np.float64) - statistics[f].mean) / statistics[f].std for f in ("spectrogram", "mfcc")
    )
    frames = []
    for k in range(offset, offset + cfg.n_frames):
        inside = k < len(mel) or cfg.short == "loop"
        m, c = (
            (mel[k % len(mel)], cepstra[k % len(mel)])
            if inside
            else (np.zeros(mel.shape[1]), np.zeros(cepstra.shape[1]))
        )
        frames.append(
            {"overwrite": np.r_[c, m[len(c) :]], "concatenate": np.r_[m, c], "spectrogram": m, "mfcc": c}[cfg.combine]
        )
    return np.array(frames)


@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("combine", COMBINE)
def test_windows_equal_the_loop(demo, combine, short):
    data = open_run(demo)
    table, store, statistics = data.items, data.store, data.statistics(data.part("recordist", "train"))
    cfg = WindowConfig(128, combine, short)
    generator = AudioFeatureGenerator(
        store, table.recording_id, table.label, sorted(set(table.label)), cfg, statistics, seed=3
    )
    x, y = generator.windows(2)
    assert store.index.n_frames.min() < 128  # short ones occur
    for k, recording_id in enumerate(table.recording_id):
        np.testing.assert_allclose(
            x[k, :, :, 0], slow_window(store, recording_id, generator.offset[k], cfg, statistics), atol=1e-4
        )
        assert generator.task.classes[y[k].argmax()] == table.label[k]


def test_loud_frames_countable_by_hand():
    mel = np.full((12, 3), -8.0)
    mel[[4, 9]] = 0  # median -8, standard deviation 8 * sqrt(2/12 * 10/12) = 2.98
    mel[6] = -5.1  # not 2.98 above the median
    assert list(loud_frames(mel)) == [4, 9]
    assert list(loud_frames(mel, 1)) == [3, 4, 5, 8, 9, 10]
    assert list(loud_frames(mel, 3)) == list(range(1, 12))  # cut at the end, joined in the middle
    assert list(loud_frames(mel, 100)) == list(range(12))
    assert list(loud_frames(mel + 60)) == [4, 9]  # no absolute level
    assert list(loud_frames(np.zeros((5, 3)))) == [0] and list(loud_frames(np.zeros((1, 3)))) == [0]


@pytest.mark.parametrize("short", SHORT)
@pytest.mark.parametrize("buffer", [0, 4])
def test_windows_of_kept_frames_equal_windows_of_a_store_that_holds_no_others(demo, short, buffer):
    data = open_run(demo)
    table, store = data.items, data.store
    cfg, statistics, classes = (
        WindowConfig(32, "overwrite", short, "loud", buffer),
        store.statistics(),
        sorted(set(table.label)),
    )
    generator = AudioFeatureGenerator(store, table.recording_id, table.label, classes, cfg, statistics, seed=3)
    x, _ = generator.windows(1)
    lengths = []
    for k, recording_id in enumerate(table.recording_id):
        kept = loud_frames(store[recording_id]["spectrogram"], buffer)
        only = {recording_id: {name: feature[kept] for name, feature in store[recording_id].items()}}
        np.testing.assert_allclose(
            x[k, :, :, 0], slow_window(only, recording_id, generator.offset[k], cfg, statistics), atol=1e-4
        )
        lengths.append(len(kept))
    assert list(generator.n_frames) == lengths and min(lengths) < 32 < max(lengths)


def test_an_epoch_holds_every_recording_once_in_seeded_order(demo):
    data = open_run(demo)
    table, store = data.items, data.store
    classes = sorted(set(table.label))

    def make(seed):
        return AudioFeatureGenerator(store, table.recording_id, table.label, classes, batch_size=7, seed=seed)

    a, b, c = make(1), make(1), make(2)
    for g in (a, b, c):
        g.set_epoch(4)
    assert sorted(a.order) == list(range(len(table))) and list(a.order) != list(range(len(table)))
    assert list(a.order) == list(b.order) != list(c.order)
    for i in reversed(range(len(a))):
        np.testing.assert_array_equal(a[i][0], b[i][0])  # whatever was asked before
    assert sum(len(a[i][0]) for i in range(len(a))) == len(table)


def test_crops_stay_inside_and_reach_both_ends(demo):
    data = open_run(demo)
    table, store = data.items, data.store
    generator = AudioFeatureGenerator(store, table.recording_id, table.label, sorted(set(table.label)), WindowConfig(8))
    room = generator.n_frames - 8
    seen = []
    for epoch in range(300):
        generator.set_epoch(epoch)
        assert (generator.offset >= 0).all() and (generator.offset <= np.maximum(room, 0)).all()
        seen.append(generator.offset)
    shortest = int(np.argmin(room))
    assert {0, room[shortest]} <= set(np.stack(seen)[:, shortest])


def test_every_epoch_crops_anew_in_validation_too(demo):
    data = open_run(demo)
    statistics, windows = data.statistics(data.items), WindowConfig(16)
    validation = part_generator(data, data.items, statistics, windows)
    places, pictures = [], []
    for epoch in (0, 1, 2, 1):
        validation.set_epoch(epoch)
        assert list(validation.order) == list(range(len(data.items)))  # only the places change
        places.append(validation.offset)
        pictures.append(validation[0][0])
    room = validation.n_frames > 4 * 16
    assert room.sum() >= 10
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (places[a][room] != places[b][room]).mean() > 0.8 and (pictures[a] != pictures[b]).any()
    assert (places[1] == places[3]).all() and (pictures[1] == pictures[3]).all()


class Ear:
    "A network of four classes that says how loud four of the frames of a window are."

    def __init__(self):
        self.heard = []

    def predict_on_batch(self, x):
        self.heard.append(x)
        return np.exp(x[..., 0][:, [0, 5, 10, 15], 64:].mean(axis=2))


def test_crop_seeds_give_different_windows(demo):
    data, ear = open_run(demo), Ear()
    statistics, windows, n = data.statistics(data.items), WindowConfig(16), len(data.items)
    found = predict_crops(ear, data, data.items, statistics, windows, crop_seeds=3)
    assert found.crop_seed.tolist() == [0] * n + [1] * n + [2] * n
    p = probabilities_of(found).reshape(3, n, 4)
    room = data.store.index.n_frames.loc[data.items.recording_id].to_numpy() > 4 * 16
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (p[a] != p[b]).any(axis=1)[room].mean() > 0.8
    for k, heard in enumerate(ear.heard):
        wanted = part_generator(data, data.items, statistics, windows, seed=CROP_SEED + k).windows(0)[0]
        np.testing.assert_array_equal(heard, wanted)


def test_validation_windows_and_labels_stay_clean(demo):
    data = open_run(demo)
    cfg, windows = TrainingConfig(batch_size=64, augmentation="mixup=1 gain=6"), WindowConfig(32)
    parts = dict(statistics=data.statistics(data.items), windows=windows, cfg=cfg)
    training, validation = (part_generator(data, data.items, **parts, shuffle=shuffle) for shuffle in (True, False))
    for epoch in (0, 3):
        validation.set_epoch(epoch)
        x, y = validation[0]
        assert [data.classes[k] for k in y.argmax(axis=1)] == list(data.items.label) and set(np.unique(y)) == {0, 1}
        np.testing.assert_array_equal(x, validation.windows(epoch)[0])  # as they are stored
    training.set_epoch(0)
    x, y = training[0]
    mixed = ((y > 0) & (y < 1)).any(axis=1)
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
    assert mixed.mean() > 0.5 and (x != training.windows(0)[0][training.order]).any()


def test_wrong_arguments_are_named(demo):
    data = open_run(demo)
    table, store = data.items, data.store
    with pytest.raises(ValueError, match="Labels that are not among the 1 classes"):
        AudioFeatureGenerator(store, table.recording_id, table.label, ["Dodo"])
    with pytest.raises(ValueError, match="one label per recording"):
        AudioFeatureGenerator(store, table.recording_id, [], ["Dodo"])
    with pytest.raises(ValueError, match="combine is one of"):
        WindowConfig(combine="sum")
    with pytest.raises(ValueError, match="frames is one of"):
        WindowConfig(frames="quiet")
    with pytest.raises(ValueError, match="0 or more; got -1"):
        WindowConfig(buffer=-1)


@pytest.fixture
def make(demo):
    "Generators of the demonstration run."
    data = open_run(demo)
    table, store = data.items, data.store

    def made(cfg=None, labels=table.label, classes=tuple(data.classes), **more):
        settings = dict(batch_size=16, seed=1) | more
        return AudioFeatureGenerator(store, table.recording_id, labels, classes, cfg or WindowConfig(), **settings)

    return made


def test_augmentation_is_drawn_from_seed_epoch_and_number(make):
    cfg = Augmentation(mixing=0.5, noise=10, time_mask=0.2)
    plain, a, b = make(), make(augmentation=cfg), make(augmentation=cfg)
    a.set_epoch(3), b.set_epoch(5), b[1], b.set_epoch(3), plain.set_epoch(3)
    for i in (2, 0):
        x, y = plain[i]
        wanted = augment(
            x,
            y,
            "spectrogram",
            cfg,
            np.random.default_rng([1, 3, i]),
            unit=a.statistics["spectrogram"].std,
            bands=slice(20, 128),
        )
        for generator in (a, b):
            assert all(map(np.array_equal, generator[i], wanted))
        assert not np.array_equal(a[i][0], x)
    assert np.array_equal(a.windows(3)[0], plain.windows(3)[0])  # scores are of windows as they are


def test_without_augmentation_and_weights_a_batch_is_what_it_was(make):
    generator = make(augmentation=Augmentation())
    x, y = generator[1]
    windows, targets = generator.windows(0)
    which = generator.order[16:32]
    assert np.array_equal(x, windows[which]) and np.array_equal(y, targets[which])


@pytest.mark.parametrize("combine,cepstra", [("overwrite", slice(0, 20)), ("concatenate", slice(128, 148))])
def test_cepstra_are_neither_shifted_nor_masked_nor_louder(make, combine, cepstra):
    x, changed = (
        make(WindowConfig(combine=combine))[0][0],
        make(WindowConfig(combine=combine), augmentation=Augmentation(frequency_mask=0.9, pitch=9, gain=20, noise=0))[
            0
        ][0],
    )
    bands = np.ones(x.shape[2], bool)
    bands[cepstra] = False
    assert (
        np.array_equal(x[:, :, ~bands], changed[:, :, ~bands]) and (x[:, :, bands] != changed[:, :, bands]).mean() > 0.9
    )


def test_augmentation_that_windows_have_no_place_for_is_refused(make):
    for cfg in (
        Augmentation(noise=3),
        Augmentation(pitch=1),
        Augmentation(mixing=1),
        Augmentation(frequency_mask=0.1),
        Augmentation(gain=1),
    ):
        with pytest.raises(ValueError, match="combine=mfcc have none"):
            make(WindowConfig(combine="mfcc"), augmentation=cfg)
    assert make(WindowConfig(combine="mfcc"), augmentation=Augmentation(mixup=1, time_mask=0.1, stretch=0.1))[0][
        0
    ].shape == (16, 128, 20, 1)


def test_weights_come_with_their_recordings_and_mix_with_them(make):
    weights = np.arange(40) / 40
    generator = make(weights=weights)
    x, y, w = generator[0]
    assert (
        w.dtype == np.float32
        and np.array_equal(w, weights[generator.order[:16]].astype(np.float32))
        and np.array_equal(x, make()[0][0])
    )
    by_class = np.array([0.1, 0.2, 0.4, 0.8])
    label = make().targets.argmax(1)
    _, y, w = make(weights=by_class[label], augmentation=Augmentation(mixup=0.5))[0]
    np.testing.assert_allclose(w, y @ by_class, atol=1e-6)
    with pytest.raises(ValueError, match="one weight per clip; got 40 clips, 3 weights"):
        make(weights=[1, 2, 3])
    assert len(next(iter(as_dataset(generator)))) == 3


def test_several_labels_at_once(make):
    labels = ["rain,bell", "bell"] * 20
    _, y = make(labels=labels, classes=Task(("bell", "rain"), True)).windows(0)
    assert y.tolist() == [[1, 1], [1, 0]] * 20


def test_facts_change_with_all_that_batches_depend_on(make):
    facts = [
        make().facts(),
        make(seed=2).facts(),
        make(WindowConfig(64)).facts(),
        make(batch_size=4).facts(),
        make(shuffle=False).facts(),
        make(weights=[1] * 40).facts(),
        make(weights=[1] * 39 + [2]).facts(),
        make(augmentation=Augmentation(gain=1)).facts(),
        make(augmentation=Augmentation(gain=2)).facts(),
        make(labels=["a", "b"] * 20, classes=["a", "b"]).facts(),
    ]
    assert (
        len(set(facts)) == len(facts)
        and make().facts() == facts[0]
        and make(augmentation=Augmentation()).facts() == facts[0]
    )
