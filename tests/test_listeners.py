"""The residual network and what it learns from; listeners of one member or two."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
from scipy.special import softmax
from test_dictionaries import SMALL, whistle

from avianspec.field.inference import can_identify, identify, load_identifier, window_probabilities
from avianspec.files import scratch_array
from avianspec.learning import listener_runs, residual
from avianspec.learning.dataset import open_run
from avianspec.learning.framewise import train_framewise
from avianspec.learning.listener_runs import learn_items, listener_settings
from avianspec.learning.listeners import ListenerConfig, train_listener
from avianspec.learning.residual import (
    MixedBatches,
    ResidualConfig,
    changed_window,
    class_weights,
    drawing_shares,
    finely_seen,
    train_residual,
    weighed_loss,
)
from avianspec.learning.saved_model import SavedModel, save_model
from avianspec.learning.tasks import Task
from avianspec.learning.unsupervised import DictionaryConfig
from avianspec.runs.catalogue import load_catalogue
from avianspec.sound.features import log_mel
from avianspec.sound.whitening import FINE, shifted
from avianspec.studies.birds.contract import final_settings

NET = ResidualConfig(window_s=2.0, filters=(4, 6, 8, 8), n_head=8, steps=60, batch_size=8)
UNCHANGED = ResidualConfig(window_s=1.0, shift=0, tempo=0, equaliser=0, gain=0, n_masks=0)
EVERYWHERE = np.linspace(0, 1, 400)


def rises(n=400, seed=0):
    "A whitened spectrogram whose rises lie well within the ceiling."
    return np.random.default_rng(seed).uniform(2, 4, (n, 96)).astype(np.float32)


def drawn(x, n=60, heard=EVERYWHERE, **changes):
    cfg = replace(UNCHANGED, **changes)
    return [changed_window(x, heard, cfg, np.random.default_rng(k)) for k in range(n)]


def test_nothing_is_changed_where_nothing_is_asked_for():
    x = rises()
    starts = {next(k for k in range(351) if np.array_equal(w, x[k : k + 50])) for w in drawn(x)}
    assert len(starts) > 40  # windows from everywhere


def test_windows_are_moved_by_all_shifts_and_by_no_more():
    x, found = np.tile(rises(1), (400, 1)), set()
    for w in drawn(x, 150, shift=3):
        found.add(next(k for k in range(-3, 4) if np.array_equal(w, shifted(x[:50], k))))
    assert found == {-3, -2, -1, 0, 1, 2, 3}


def test_a_gain_is_the_same_everywhere_and_leaves_the_background_alone():
    x = rises()
    x[:, :20] = 0
    gains = []
    for w in drawn(np.tile(x[:1], (400, 1)), gain=0.3):
        assert (w[:, :20] == 0).all()
        added = (w - x[0])[:, 20:]
        np.testing.assert_allclose(added, added[0, 0], atol=1e-5)
        gains.append(added[0, 0])
    assert 0.2 < np.std(gains) < 0.4


def test_an_equaliser_bends_at_six_knots_and_nothing_leaves_the_range():
    x = np.tile(rises(1), (400, 1))
    for w in drawn(x, 10, equaliser=0.3):
        added = (w - x[0])[0]
        knots = np.interp(np.arange(6), np.linspace(0, 5, 96), added)
        np.testing.assert_allclose(added, np.interp(np.linspace(0, 5, 96), np.arange(6), knots), atol=1e-2)
    loud = np.concatenate(drawn(x, 20, equaliser=9.0))
    assert loud.min() == 0 and loud.max() == 7


def test_masks_are_no_longer_than_said_and_blank_all_that_they_cover():
    longest = np.zeros(2, int)
    for w in drawn(rises(), 100, n_masks=1, mask_s=0.2, mask_bands=7):
        times, bands = (w == 0).all(axis=1), (w == 0).all(axis=0)
        assert ((w == 0) == (times[:, None] | bands)).all()
        longest = np.maximum(longest, [times.sum(), bands.sum()])
    assert longest.tolist() == [10, 7]  # of 20 ms; of bands


def test_tempo_stretches_by_a_tenth_at_most():
    ramp = np.tile(np.arange(400, dtype=np.float32)[:, None] / 100, (1, 96))
    slopes = [np.median(np.diff(w[:, 0])) * 100 for w in drawn(ramp, 100, tempo=0.1)]
    assert 0.88 < min(slopes) < 0.92 and 1.06 < max(slopes) < 1.1  # whole frames: 45 to 54 in place of 50


def test_windows_lie_where_something_happens():
    x = np.zeros((400, 96), np.float32)
    x[200:205] = 3
    cfg = replace(UNCHANGED, batch_size=16, mixup=0, smoothing=0)
    windows, _ = MixedBatches([x], np.array([0]), np.array([1.0]), cfg).next()
    assert (windows.max(axis=(1, 2, 3)) == 3).mean() > 0.9  # by chance 14 %


def test_two_windows_are_mixed_in_power_and_so_are_their_labels():
    soft, loud = np.full((400, 96), 1.0, np.float32), np.full((400, 96), 5.0, np.float32)
    cfg = replace(UNCHANGED, batch_size=64, mixup=1.0, smoothing=0)
    x, y = MixedBatches([soft, loud], np.array([0, 1]), np.array([0.5, 0.5]), cfg).next()
    np.testing.assert_allclose(np.exp(x[:, 0, 0, 0]), y @ np.exp([1.0, 5.0]), rtol=1e-4)
    assert ((y[:, 0] > 0.05) & (y[:, 0] < 0.95)).sum() > 10


def test_species_are_drawn_alike_and_recordists_by_the_root_of_their_recordings():
    labels, makers = np.array(list("aaaaab")), np.array(list("xxxxyz"))
    shares = drawing_shares(labels, makers)
    assert shares[:4].sum() == pytest.approx(1 / 3) and shares[4] == pytest.approx(1 / 6)  # 2 : 1
    assert shares[5] == pytest.approx(1 / 2)


def test_the_network_weighs_moments_by_its_attention():
    from avianspec.learning.models import keras, residual_net

    keras.utils.set_random_seed(1)
    network = residual_net((64, 96, 1), 3, (4, 4, 4, 4), 8)
    parts = keras.Model(network.input, [network.get_layer(n).output for n in ("attention", "scores")])
    x = 4 * np.random.default_rng(0).random((5, 64, 96, 1)).astype(np.float32)
    attention, scores = (np.asarray(p) for p in parts.predict_on_batch(x))
    logits = (softmax(attention, axis=1) * scores).sum(axis=1)
    assert attention.shape == (5, 4, 3)  # 64 frames halved four times
    np.testing.assert_allclose(network.predict_on_batch(x), softmax(logits, axis=1), rtol=1e-4)


def test_what_is_kept_is_the_moving_average_of_the_weights():
    from avianspec.learning.models import keras, residual_net

    heard = [log_mel(whistle(hz, k), FINE) for k, hz in enumerate((2000, 5000))]
    keras.utils.set_random_seed(0)
    first = [np.asarray(v) for v in residual_net((100, 96, 1), 2, NET.filters, NET.n_head).trainable_variables]

    def moved(average):
        cfg = replace(NET, steps=5, average=average)
        trained = train_residual(heard, ["a", "b"], ["x", "y"], cfg, progress=False).network().trainable_variables
        return max(np.abs(np.asarray(a) - b).max() for a, b in zip(trained, first, strict=True))

    step = NET.learning_rate / 25  # the first of the cycle; the average begins with the weights behind it
    assert moved(1e9) == pytest.approx(step, rel=0.1) and moved(0.0) > 10 * step
    assert moved(0.2) == moved(0.0)  # of five steps the last one


def test_recordings_that_do_not_fit_into_memory_lie_in_a_file_and_teach_the_same(monkeypatch, tmp_path):
    heard = [log_mel(whistle(hz, k)[:n], FINE) for k, (hz, n) in enumerate([(2000, -1), (5000, -1), (3000, 20_000)])]
    assert len(heard[2]) // 2 < NET.n_frames < len(heard[0]) // 2  # one is shorter than a window
    few, asked, makers = replace(NET, steps=3), ["a", "b", "b"], ["x", "y", "z"]

    def both():
        network = train_residual(heard, asked, makers, few, progress=False)
        return network.weights + train_framewise(heard, [{x} for x in asked], few, progress=False).weights

    inside = both()
    monkeypatch.setenv("AVIANSPEC_CACHE", str(tmp_path))
    tables = []

    @contextmanager
    def watched(shape):
        with scratch_array(shape, limit=1000) as table:
            tables.append((shape, isinstance(table, np.memmap)))
            yield table

    monkeypatch.setattr(residual, "scratch_array", watched)
    for ours, other in zip(inside, both(), strict=True):
        np.testing.assert_array_equal(ours, other)
    assert tables == [((sum(max(len(x) // 2, NET.n_frames) for x in heard), 96), True)] * 2
    assert not list(tmp_path.iterdir())  # the file had no name


def shares_of(logits, loss):
    return softmax(logits, axis=-1) if loss == "softmax" else 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("loss", ["softmax", "binary"])
def test_classes_that_count_in_full_are_learnt_from_as_keras_does(loss):
    from avianspec.learning.models import keras

    rng = np.random.default_rng(0)
    p = shares_of(rng.normal(size=(9, 4)), loss).astype(np.float32)
    y = rng.dirichlet(np.ones(4), 9).astype(np.float32)
    known = dict(softmax=keras.losses.categorical_crossentropy, binary=keras.losses.binary_crossentropy)[loss]
    said = weighed_loss(np.hstack([y, np.ones_like(y)]), p, loss)
    np.testing.assert_allclose(np.asarray(said), np.asarray(known(y, p)), rtol=1e-4)


@pytest.mark.parametrize("loss", ["softmax", "binary"])
def test_of_a_bird_heard_behind_another_nothing_is_said_where_its_weight_is_nothing(loss):
    "Whatever is answered for it costs the same; where it counts in part, an answer costs a part."
    x, cfg = rises(), replace(UNCHANGED, batch_size=2, mixup=0, loss=loss)

    def costs(weight):
        weights = class_weights(["a", "b", "c"], ["a", "b", "c"], [{"b", "crow"}, (), ()], weight)
        assert (weights < 1).sum() == (weight < 1) and weights[0, 1] == np.float32(weight)
        _, y = MixedBatches([x] * 3, np.arange(3), np.array([1.0, 0, 0]), cfg, weights).next()
        y = y if weight < 1 else np.hstack([y, np.ones_like(y)])
        logits = np.array([[1.0, b, -1.0] for b in (-6.0, 6.0)])
        return np.asarray(weighed_loss(y, shares_of(logits, loss).astype(np.float32), loss))

    nothing, half, full = (np.diff(costs(w))[0] for w in (0.0, 0.5, 1.0))
    assert abs(nothing) < 1e-5 and full > half > nothing + 0.5


def test_two_weighed_windows_are_mixed_and_the_loss_has_its_least_where_it_should():
    "A bird that is the second's and behind the first's: of binary, losses are mixed; of soft-max, it has an end."
    x, cfg = rises(), replace(UNCHANGED, batch_size=64, mixup=1.0, smoothing=0.1)
    weights = class_weights(["a", "b"], ["a", "b", "c"], [{"b"}, ()], 0.0)
    batches = MixedBatches([x, x], np.array([0, 1]), np.array([0.5, 0.5]), cfg, weights)
    batches.places = np.array([0, 1, 2])  # a third class that nobody sings
    _, y = batches.next()
    ends = np.array([[28 / 30, 0, 1 / 30, 1, 0, 1], [1 / 30, 28 / 30, 1 / 30, 1, 1, 1]])
    share = y[:, 4]  # of the second
    assert ((share > 0.05) & (share < 0.95)).sum() > 10
    np.testing.assert_allclose(y, (1 - share[:, None]) * ends[0] + share[:, None] * ends[1], atol=1e-6)
    some = y[(share > 0.05) & (share < 0.95)][:1]
    least = some[0, :3] / some[0, 3:]
    best = weighed_loss(some, (least / least.sum())[None].astype(np.float32))
    for k in range(200):
        other = np.random.default_rng(k).dirichlet(np.ones(3))[None].astype(np.float32)
        assert weighed_loss(some, other) > best
    p = np.array([[0.3, 0.6, 0.1]], np.float32)
    each = [weighed_loss(end[None].astype(np.float32), p, "binary")[0] for end in ends]
    mixed = (1 - some[0, 4]) * each[0] + some[0, 4] * each[1]
    assert float(weighed_loss(some, p, "binary")[0]) == pytest.approx(float(mixed), rel=1e-5)


def test_what_is_heard_behind_is_denied_less_where_it_is_asked_for_and_else_changes_nothing():
    heard = [log_mel(whistle(2000, k) + whistle(5000, 90 + k) if k % 2 else whistle(5000, k), FINE) for k in range(8)]
    behind = [(), {"high"}] * 4  # low whistles

    def learnt(also=(), **changes):
        cfg, makers = ListenerConfig(None, replace(NET, **changes)), [f"m{k}" for k in range(8)]
        return train_listener(heard, ["high", "low"] * 4, makers, cfg, progress=False, also=also)

    plain, same, asked = learnt(), learnt(behind), learnt(behind, also_weight=0.0)
    for a, b in zip(plain.members[0].weights, same.members[0].weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert asked.predict_recording(heard[1])[0] > plain.predict_recording(heard[1])[0] + 0.2


def test_batches_are_the_same_to_the_last_bit_where_all_classes_count_in_full():
    x, none = [rises(seed=k) for k in range(3)], [()] * 3
    cases = [(None, 1.0), ([{"b"}, {"a"}, ()], 1.0), (none, 0.0), ([{"crow"}, {"b"}, ()], 0.0)]
    found = []
    for also, weight in cases:
        weights = None if also is None else class_weights(list("abc"), list("abc"), also, weight)
        batches = MixedBatches(x, np.arange(3), np.full(3, 1 / 3), NET, weights)
        found.append([batches.next() for _ in range(3)])
    for other in found[1:]:
        for (x1, y1), (x2, y2) in zip(found[0], other, strict=True):
            assert np.array_equal(x1, x2) and np.array_equal(y1, y2) and y1.shape == (8, 3)


def test_what_the_recordings_table_says_is_behind_a_bird_reaches_what_learns(demo, monkeypatch):
    data, found = open_run(demo), {}

    def watched(recordings, labels, makers, cfg, jobs, progress, also):
        found.update(labels=labels, also=also)

    monkeypatch.setattr(listener_runs, "train_listener", watched)
    first = data.items.drop_duplicates("label").reset_index(drop=True)
    one, two = first.label[:2]
    latin = f"Corvus corax|{first.scientific_name[1]}| {one.upper()}"
    items = first.assign(background=[latin, one.replace(" ", "-"), *[""] * (len(first) - 2)])
    learn_items(data, items, ListenerConfig(None, replace(NET, also_weight=0.5)), progress=False)
    assert found == dict(labels=list(first.label), also=[{two}, {one}, *[set()] * (len(first) - 2)])
    for nobody_asks in (ListenerConfig(SMALL, None), ListenerConfig(None, NET)):
        found["also"] = None
        learn_items(data, items, nobody_asks, progress=False)
        assert found["also"] == ()


@pytest.fixture(scope="module")
def listener():
    heard = [log_mel(whistle((2000, 5000)[k % 2], k), FINE) for k in range(12)]
    makers = [f"m{k}" for k in range(12)]
    return train_listener(heard, ["low", "high"] * 6, makers, ListenerConfig(SMALL, NET), progress=False)


def test_new_recordings_are_told_apart_by_each_member_and_by_both(listener):
    for k, (hz, seconds, gain) in enumerate([(2000, 9, 0.3), (5000, 1.2, 0.1), (2000, 1.0, 0.6), (5000, 4, 0.02)]):
        x = log_mel(whistle(hz, 50 + k, seconds, gain), FINE)
        each = [m.predict_recording(x) for m in listener.members]
        both = listener.predict_recording(x)
        for p in (*each, both):
            assert listener.classes[p.argmax()] == ("low" if hz == 2000 else "high"), (hz, seconds, gain)
        np.testing.assert_allclose(both, softmax(np.log(each).mean(axis=0)), atol=1e-4)


def test_a_microphone_that_colours_every_frame_changes_nothing(listener):
    x = log_mel(whistle(3000, 1), FINE)
    coloured = x + np.linspace(-3, 3, 96).astype(np.float32)
    np.testing.assert_allclose(finely_seen(coloured), finely_seen(x), atol=1e-4)


def test_a_listener_is_kept_and_asked_about_a_file(listener, tmp_path):
    saved = SavedModel(listener, Task(listener.classes), "listener", FINE, network="ours", split="recordist")
    save_model(tmp_path / "model.npz", saved)
    again = load_identifier(tmp_path)
    assert again.model.cfg == listener.cfg and again.model.count_params() == listener.count_params()
    sf.write(tmp_path / "both.wav", np.concatenate([whistle(2000, 70, 6.0), whistle(5000, 71, 6.0)]), FINE.sr)
    windows, note = window_probabilities(again, tmp_path / "both.wav")
    assert windows.start_s.tolist() == pytest.approx(np.arange(11.0), abs=0.03) and note == ""
    spans = identify(again, tmp_path / "both.wav", top=2).set_index("label").spans
    assert spans["low"].startswith("0.0-") and spans["high"].endswith("-12.0")


def test_a_run_is_asked_by_the_listener_beside_its_network(listener, tmp_path):
    "And says of a recording what the listener says of it in its scores."
    saved = SavedModel(listener, Task(listener.classes), "listener", FINE, network="ours", split="recordist")
    assert not can_identify(tmp_path)
    (tmp_path / "listener").mkdir()
    save_model(tmp_path / "listener" / "model.npz", saved)
    (tmp_path / "model.json").write_text('{"kind": "spectrogram"}')  # of a network that must not be opened
    (tmp_path / "model.keras").write_text("no network")
    assert can_identify(tmp_path) and load_identifier(tmp_path).network == "ours"
    y = np.concatenate([whistle(2000, 80, 3.0), whistle(5000, 81, 2.0)])
    sf.write(tmp_path / "both.wav", y, FINE.sr, subtype="FLOAT")
    said = identify(load_identifier(tmp_path), tmp_path / "both.wav", top=2).set_index("label").probability
    expected = listener.predict_recording(log_mel(y.astype(np.float32), FINE))
    np.testing.assert_allclose([said["high"], said["low"]], expected, atol=1e-5)


def test_what_makes_no_listener_is_refused():
    with pytest.raises(ValueError, match="a dictionary, a network, or both; got neither"):
        ListenerConfig(None, None)
    with pytest.raises(ValueError, match="got 2 s of the dictionary and 5 s of the network"):
        ListenerConfig(SMALL)
    with pytest.raises(ValueError, match="at least two classes; got low"):
        train_residual([np.zeros((99, 96))], ["low"], ["x"], NET, progress=False)
    for wrong in (
        dict(steps=0),
        dict(batch_size=1),
        dict(average=-0.1),
        dict(smoothing=1.0),
        dict(tempo=-0.1),
        dict(also_weight=2.0),
    ):
        with pytest.raises(ValueError, match="got"):
            ResidualConfig(**wrong)


def test_experiments_name_what_they_listen_with():
    catalogue = load_catalogue()
    settings = {n: final_settings(catalogue[f"birds-{n}"].parameters, 4)["listener"] for n in ("residual", "ours")}
    alone, both = (ListenerConfig(**settings[n]) for n in ("residual", "ours"))
    assert alone.dictionary is None and alone.residual == both.residual
    assert replace(both.residual, precision="float32") == ResidualConfig(seed=4)
    assert both.dictionary == DictionaryConfig(seed=4)
    left_out = listener_settings(catalogue["ablation-network-also-left-out"].parameters, 4).residual
    base = listener_settings(catalogue["ablation-network"].parameters, 4).residual
    assert left_out == replace(base, also_weight=0.0) and base.also_weight == 1
