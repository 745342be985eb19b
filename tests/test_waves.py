"""Waves against librosa and against a loop."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.data.recordings import validate
from avianspec.learning.tasks import Task, task_of
from avianspec.learning.wave_batches import WaveGenerator, cut_windows
from avianspec.sound.augmentation import Augmentation
from avianspec.stores.waves import WaveConfig, build_waves

TASK = Task(("a", "b"))


def table_of(paths, labels=None):
    return validate(
        pd.DataFrame(
            dict(
                recording_id=[p.name for p in paths],
                label=labels or ["a", "b"] * (len(paths) // 2) + ["a"] * (len(paths) % 2),
                path=[str(p) for p in paths],
            )
        )
    )


@pytest.fixture
def clips(tmp_path):
    "Six clips of 0.5 to 3 s, each of one tone."
    paths = []
    for k, seconds in enumerate((0.5, 0.8, 1.0, 1.5, 2.0, 3.0)):
        paths.append(tmp_path / f"clip{k}.wav")
        sf.write(paths[-1], tone(seconds, 16000, 200 * (k + 1)), 16000, subtype="FLOAT")
    return table_of(paths)


def test_every_kind_of_file_becomes_librosas_wave_or_has_its_reason(odd_files, tmp_path_factory):
    import librosa

    folder, expected = odd_files
    table = table_of([folder / name for name in expected])
    store = build_waves(table, WaveConfig(), tmp_path_factory.mktemp("store") / "waves", progress=False)
    assert {i: "usable" for i in store.index.index} | dict(
        zip(store.quarantine.recording_id, store.quarantine.verdict, strict=True)
    ) == {name: verdict for name, (verdict, _) in expected.items()}
    assert (
        (store.quarantine.reason != "").all()
        and store.samples.dtype == np.float32
        and len(store.samples) == store.index.n_samples.sum()
    )
    for name in store.index.index:
        y, sr = librosa.load(folder / name, sr=None, mono=True)
        np.testing.assert_allclose(
            store[name], y if sr == 16000 else librosa.resample(y, orig_sr=sr, target_sr=16000), atol=2e-6, err_msg=name
        )
        assert store.index.sr[name] == sr
    with pytest.raises(KeyError, match="No wave of recording 'nan.wav'"):
        store["nan.wav"]


def test_rates_that_no_wave_has_are_named():
    with pytest.raises(ValueError, match="sr lies between"):
        WaveConfig(0)


def test_windows_by_hand():
    samples = np.float32([9, 1, 2, 3, 5, 9, -4, 4, 9, 0.25, 0.25, 0.25, 9])

    def cut(first, n, offset, length):
        return cut_windows(samples, *(np.array([k]) for k in (first, n, offset)), length)[0, :, 0].tolist()

    assert cut(1, 4, 0, 4) == [-0.5, -0.25, 0, 0.5]  # 1, 2, 3, 5
    np.testing.assert_allclose(cut(1, 4, 1, 3), [-0.5, -1 / 6, 0.5], atol=1e-6)
    assert cut(6, 2, -1, 4) == [0, -0.5, 0.5, 0]  # one sample of silence before and after, midway between -4 and 4
    assert cut(6, 2, 0, 3) == [-0.5, 0.5, 0] and cut(6, 2, -1, 3) == [0, -0.5, 0.5]
    assert cut(9, 3, 0, 3) == [0, 0, 0]  # nothing changes: 0, not a division by 0
    assert cut(9, 3, -1, 5) == [-0.5, 0.5, 0.5, 0.5, -0.5]
    huge, tiny = np.float32([3e37, -3e37]), np.float32([1e-42, 0])
    assert all(np.isfinite(cut_windows(s, np.array([0]), np.array([2]), np.array([0]), 2)).all() for s in (huge, tiny))


def test_the_generator_equals_a_loop_as_the_study_wrote_it(clips, tmp_path):
    store = build_waves(clips, WaveConfig(), tmp_path / "waves", progress=False)
    generator = WaveGenerator(store, clips.recording_id, clips.label, task_of(clips.label), duration_s=1.0, seed=2)
    for epoch in range(3):
        x, y = generator.windows(epoch)
        assert (
            x.shape == (6, 16000, 1) and x.dtype == y.dtype == np.float32 and y.argmax(1).tolist() == [0, 1, 0, 1, 0, 1]
        )
        for k, i in enumerate(clips.recording_id):
            data, offset = np.asarray(store[i], np.float64), generator.offset[k]
            data = (
                data[offset : offset + 16000]
                if len(data) > 16000
                else np.pad(data, (-offset, 16000 - len(data) + offset))
            )
            np.testing.assert_allclose(
                x[k, :, 0], (data - data.min()) / (data.max() - data.min() + 1e-6) - 0.5, atol=1e-5
            )
        assert (x.min(1) == -0.5).all() and (x.max(1) == 0.5).all()


def test_crops_reach_both_ends_and_padding_both_sides(clips, tmp_path):
    store = build_waves(clips, WaveConfig(), tmp_path / "waves", progress=False)
    generator, offsets = (
        WaveGenerator(store, clips.recording_id, clips.label, task_of(clips.label), duration_s=1.0),
        [],
    )
    for epoch in range(400):
        generator.set_epoch(epoch)
        offsets.append(generator.offset)
    for spare, seen in zip(generator.n_samples - 16000, np.stack(offsets).T, strict=True):
        low, high = min(0, spare), max(0, spare)
        assert (
            seen.min() >= low
            and seen.max() <= high
            and seen.min() <= low + 0.02 * (high - low)
            and seen.max() >= high - 0.02 * (high - low)
        )
        if spare:
            assert abs(np.mean((seen - low) / (high - low)) - 0.5) < 0.06


def test_batches_are_a_function_of_seed_epoch_and_number(clips, tmp_path):
    store = build_waves(clips, WaveConfig(), tmp_path / "waves", progress=False)
    weights = np.linspace(0.5, 1, 6)

    def make(**k):
        return WaveGenerator(
            store, clips.recording_id, clips.label, task_of(clips.label), 1.0, **(dict(batch_size=4, seed=1) | k)
        )

    a, b = (
        make(weights=weights, augmentation=Augmentation(mixup=0.5, noise=10)),
        make(weights=weights, augmentation=Augmentation(mixup=0.5, noise=10)),
    )
    a.set_epoch(3), b.set_epoch(9), b[0], b.set_epoch(3)
    assert len(a) == 2 and [len(a[i][0]) for i in range(2)] == [4, 2] and sorted(a.order) == list(range(6))
    for i in (1, 0):
        assert all(map(np.array_equal, a[i], b[i]))
        assert a[i][2].min() >= 0.5 and a[i][2].dtype == np.float32
    plain = make(weights=weights)
    plain.set_epoch(3)
    x, y, w = plain[0]
    assert (
        np.array_equal(w, weights[plain.order[:4]].astype(np.float32))
        and not np.array_equal(x, a[0][0])
        and np.array_equal(a.windows(3)[0], plain.windows(3)[0])
    )
    assert len(make()[0]) == 2 and list(make(shuffle=False).order) == list(range(6))
    with pytest.raises(IndexError, match="Batch 2 of 2"):
        a[2]


def test_facts_change_with_all_that_batches_depend_on(clips, tmp_path):
    store = build_waves(clips, WaveConfig(), tmp_path / "waves", progress=False)

    def make(ids=clips.recording_id, labels=clips.label, task=TASK, **k):
        return WaveGenerator(store, ids, labels, task, **k).facts()

    facts = [
        make(),
        make(duration_s=1.0),
        make(seed=1),
        make(batch_size=2),
        make(shuffle=False),
        make(augmentation=Augmentation(gain=1)),
        make(weights=[1] * 6),
        make(weights=[1, 1, 1, 1, 1, 0.5]),
        make(labels=["a"] * 6),
        make(task=Task(("a", "b"), True)),
        make(ids=clips.recording_id[::-1]),
    ]
    assert len(set(facts)) == len(facts) and make() == facts[0]


def test_several_labels_at_once(clips, tmp_path):
    store = build_waves(clips, WaveConfig(), tmp_path / "waves", progress=False)
    labels = ["rain", "rain,bell", "bell", "bell,rain", "rain", "fire"]
    _, y = WaveGenerator(store, clips.recording_id, labels, task_of(labels)).windows(0)
    assert y.tolist() == [[0, 0, 1], [1, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 1, 0]]


def test_wrong_arguments_are_named(clips, tmp_path):
    store = build_waves(clips, WaveConfig(), tmp_path / "waves", progress=False)

    def make(ids, labels, **k):
        return WaveGenerator(store, ids, labels, Task(("a", "b")), **k)

    with pytest.raises(ValueError, match="one label per recording; got 6 recordings, 1 labels"):
        make(clips.recording_id, ["a"])
    with pytest.raises(ValueError, match="one label per recording; got 0"):
        make([], [])
    with pytest.raises(ValueError, match="not among the 2 classes: c"):
        make(clips.recording_id[:1], ["c"])
    with pytest.raises(ValueError, match="one weight per clip; got 6 clips, 2 weights"):
        make(clips.recording_id, clips.label, weights=[1, 2])
    with pytest.raises(KeyError, match="No waves of 1 recordings.*'dodo'"):
        make(["dodo"], ["a"])
    with pytest.raises(ValueError, match="at least one sample; got 0.0 s"):
        make(clips.recording_id, clips.label, duration_s=0.0)


def test_real_clips(shared_data, tmp_path):
    import librosa

    from avianspec.data.layouts import load_layout

    table = load_layout(shared_data / "environment").iloc[::40].reset_index(drop=True)
    store = build_waves(table, WaveConfig(), tmp_path / "waves", progress=False)
    for i, path in zip(table.recording_id, table.path, strict=True):
        np.testing.assert_allclose(store[i], librosa.load(path, sr=16000)[0], atol=1e-5)
