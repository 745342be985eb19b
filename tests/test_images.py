"""Pictures equal those of librosa and matplotlib; tracks stay on one side; batches hold every clip once."""

import io
import json

import librosa
import matplotlib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import bytes_of, little_corpus, tone
from PIL import Image

from avianspec.data.known_sets import load_gtzan
from avianspec.data.splits import split_clips, twin_clips
from avianspec.files import read_json, read_text_table
from avianspec.learning.picture_batches import ImageGenerator, open_images, prepare_images
from avianspec.learning.tasks import Task
from avianspec.sound.audio import UnusableAudio
from avianspec.sound.augmentation import Augmentation
from avianspec.sound.pictures import ImageConfig, clip_blocks, clip_power, colour_table, pictures, recording_pictures
from avianspec.stores.pictures import build_images
from avianspec.synthetic.band import make_band

SR, CFG, SHORT = 22050, ImageConfig(), ImageConfig(clip_s=0.5, size=16)  # as published; quick ones
NEAREST, FIGURE = ImageConfig(resize="nearest"), ImageConfig(size=0)


def sounds():
    rng, n = np.random.default_rng(3), 3 * SR
    chirp = np.sin(2 * np.pi * np.cumsum(np.linspace(80, 9000, n)) / SR)
    noise = rng.standard_normal(n)
    return {
        "noise": 0.1 * noise,
        "chirp": 0.5 * chirp,
        "chirp in noise": 0.5 * chirp + 0.01 * noise,
        "a whisper": 1e-4 * noise,
        "click": np.eye(1, n, n // 3)[0],
        "half silent": np.where(np.arange(n) < n // 2, 0, 0.2 * noise),
        "silent": np.zeros(n),
        "clipped": np.clip(3 * noise, -1, 1),
    }


def decibels(y, cfg=CFG):
    mel = librosa.feature.melspectrogram(y=y, sr=cfg.sr, n_fft=cfg.n_fft, hop_length=cfg.hop_length, n_mels=cfg.n_mels)
    return librosa.power_to_db(mel, ref=np.max, top_db=cfg.top_db)


def reference(y, cfg=CFG):
    "librosa, matplotlib's colour map (rounded, as in a figure), edges rounded to whole pixels, Pillow's resize."
    colours = matplotlib.colormaps[cfg.colour_map](matplotlib.colors.Normalize()(decibels(y, cfg)))[::-1, :, :3]
    rgb = np.floor(255 * colours + 0.5).astype(np.uint8)

    def pixels(n, n_pixels):
        return np.diff(np.floor(np.arange(n + 1) * n_pixels / n + 0.5).astype(int))

    return by_pillow(
        rgb.repeat(pixels(rgb.shape[0], cfg.height), axis=0).repeat(pixels(rgb.shape[1], cfg.width), axis=1), cfg
    )


def by_pillow(figure, cfg):
    "A figure resized as the study did it with Pillow 7.1.2, whose default is bicubic; or as the settings say."
    way = {"bicubic": Image.Resampling.BICUBIC, "nearest": Image.Resampling.NEAREST}[cfg.resize]
    image = Image.fromarray(figure)
    return np.asarray(image.resize((cfg.size, cfg.size), way) if cfg.size else image)


def drawn(y, cfg=CFG):
    "The study's own way: a figure without borders, drawn, saved, opened, resized by Pillow."
    import librosa.display
    import matplotlib.pyplot as plt

    fig = plt.figure(figsize=(cfg.width / 72, cfg.height / 72), dpi=72)
    ax = fig.add_axes([0, 0, 1, 1])
    ax.axis("off")
    librosa.display.specshow(decibels(y, cfg), sr=cfg.sr, cmap=cfg.colour_map, ax=ax)
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=72)
    plt.close(fig)
    return by_pillow(np.asarray(Image.open(png).convert("RGB")), cfg)


def off(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max(axis=-1)


def ours(y, cfg=CFG):
    return pictures(clip_power(y[None].astype(np.float32), cfg), cfg)[0]


@pytest.mark.parametrize("name", sounds())
@pytest.mark.parametrize("cfg", [CFG, NEAREST, FIGURE], ids=["bicubic", "nearest", "220x216"])
def test_pictures_equal_librosa_and_matplotlib(name, cfg):
    y = sounds()[name].astype(np.float32)
    picture = ours(y, cfg)
    assert picture.shape == cfg.shape and picture.dtype == np.uint8
    apart = off(picture, reference(y, cfg))
    assert apart.max() <= 2 and (apart == 0).mean() > 0.998
    apart = off(picture, drawn(y, cfg))
    assert (apart == 0).mean() > 0.998 and apart.max() <= 4


@pytest.mark.parametrize("resize", ["bicubic", "nearest"])
@pytest.mark.parametrize("height, width, size", [(220, 216, 128), (220, 216, 7), (50, 60, 128), (128, 200, 128)])
def test_a_figure_is_resized_to_the_same_bits_as_by_pillow(height, width, size, resize):
    sizes = dict(height=height, width=width, resize=resize)
    rng = np.random.default_rng(size)
    noise, edges = rng.uniform(-9, 0, (20, 130, 128)), rng.choice([-8, 0], (20, 130, 128))  # edges overshoot
    rows, columns = edges[:, :1].repeat(130, axis=1), edges[:, :, :1].repeat(128, axis=2)
    mel = (10 ** np.concatenate([noise, edges, rows, columns])).astype(np.float32)
    figures = pictures(mel, ImageConfig(size=0, **sizes))
    cfg = ImageConfig(size=size, **sizes)
    expected = np.stack([by_pillow(figure, cfg) for figure in figures])
    assert np.array_equal(pictures(mel, cfg), expected)


@pytest.mark.parametrize(
    "cfg",
    [
        ImageConfig(clip_s=1.0, n_mels=64, size=100),
        ImageConfig(clip_s=1.0, n_mels=64, size=100, resize="nearest"),
        ImageConfig(height=90, width=80),
        ImageConfig(top_db=40.0, colour_map="gray", size=64),
        ImageConfig(hop_length=300, n_fft=1000, size=0),
        ImageConfig(height=150, width=200, size=0, n_mels=40, clip_s=5.0),
        ImageConfig(sr=16000),
    ],
    ids=str,
)
def test_other_settings_equal_matplotlib_too(cfg):
    y = np.resize(sounds()["chirp in noise"], cfg.n_samples).astype(np.float32)
    picture = ours(y, cfg)
    if cfg.n_fft % 2 == 0:
        assert (off(picture, reference(y, cfg)) <= 2).mean() > 0.9999
    assert (off(picture, drawn(y, cfg)) == 0).mean() > 0.999


def test_a_picture_is_resized_as_in_the_study_where_nothing_else_is_asked_for():
    y = sounds()["chirp in noise"]
    expected = Image.fromarray(ours(y, ImageConfig(size=0))).resize((128, 128), Image.Resampling.BICUBIC)
    assert np.array_equal(ours(y, ImageConfig()), np.asarray(expected))


def test_keras_loads_the_same_picture(tmp_path):
    y = sounds()["chirp in noise"].astype(np.float32)
    Image.fromarray(ours(y, ImageConfig(size=0))).save(tmp_path / "clip.png")
    load = pytest.importorskip("keras.utils").load_img
    for cfg in (CFG, NEAREST):
        loaded = load(tmp_path / "clip.png", target_size=(128, 128), interpolation=cfg.resize)
        assert np.array_equal(np.asarray(loaded), ours(y, cfg))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_no_numbers_do_no_harm(bad, tmp_path):
    y = tone(20.0)  # many clips are made before the file's end is reached and it is refused
    y[1000] = bad
    assert pictures(clip_power(np.resize(y, (2, SHORT.n_samples)), SHORT), SHORT).shape == (2, 16, 16, 3)
    sf.write(tmp_path / "bad.wav", y, SR, subtype="FLOAT")
    with pytest.raises(UnusableAudio, match="not numbers"):
        recording_pictures(tmp_path / "bad.wav", SHORT)


def test_low_frequencies_lie_at_the_bottom_and_time_runs_to_the_right():
    t = np.arange(3 * SR) / SR
    low_then_high = np.where(t < 1.5, np.sin(2 * np.pi * 200 * t), np.sin(2 * np.pi * 8000 * t)).astype(np.float32)
    bright = ours(low_then_high).sum(-1)
    assert bright[100:, :60].max() > bright[:40, :60].max() and bright[:40, 70:].max() > bright[100:, 70:].max()
    np.testing.assert_array_equal(
        colour_table("viridis")[[0, 255]], [[68, 1, 84], [253, 231, 37]]
    )  # as published: #440154 and #fde725


@pytest.mark.parametrize(
    "wrong", [dict(clip_s=0.01), dict(width=0), dict(size=-1), dict(top_db=0.0), dict(resize="lanczos")]
)
def test_settings_that_make_no_picture(wrong):
    with pytest.raises(ValueError):
        ImageConfig(**wrong)


def test_unknown_colour_map_is_named():
    with pytest.raises(ValueError, match="rainbows"):
        pictures(np.ones((1, 44, 128), np.float32), ImageConfig(clip_s=1.0, colour_map="rainbows"))


@pytest.mark.parametrize("size", [7, 1000, 10**6])
@pytest.mark.parametrize("n", [1, 99, 100, 101, 5000, 5099])
def test_clips_are_cut_without_gaps_whatever_the_blocks(n, size):
    y, buffer = np.arange(n, dtype=np.float32), np.empty(size, np.float32)

    def blocks():  # as a reader does that uses its memory again
        for i in range(0, n, size):
            part = y[i : i + size]
            buffer[: len(part)] = part
            yield buffer[: len(part)]

    cut = np.concatenate(list(clip_blocks(blocks(), 100)))
    assert np.array_equal(cut.ravel(), y[: n // 100 * 100] if n >= 100 else np.resize(y, 100))


def test_nothing_but_the_clip_is_heard(monkeypatch):
    clips = 0.1 * np.random.default_rng(4).standard_normal((2, SHORT.n_samples)).astype(np.float32)
    expected = clip_power(clips, SHORT)
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float, **_: np.full(shape, 7, dtype))  # memory used before
    assert np.array_equal(clip_power(clips, SHORT), expected)


def test_each_clip_is_that_stretch_of_its_track(tmp_path):
    table = load_gtzan(make_band(tmp_path / "band", 2, 2, 10.0, progress=False))
    store = build_images(table, ImageConfig(), tmp_path / "store", progress=False)
    assert store.clips.groupby("recording_id").clip_id.count().to_dict() == dict.fromkeys(
        table.recording_id, 3
    )  # 10 s: three clips, one second dropped
    for row in store.clips.itertuples():
        y = sf.read(table.path[table.recording_id == row.recording_id].item(), dtype="float32")[0]
        start = round(row.start_s * SR)
        assert off(store[row.clip_id], reference(y[start : start + 3 * SR])).max() <= 2


def test_stereo_and_other_rates(tmp_path):
    y = np.stack([0.3 * tone(4.0, 44100)[:, 0], 0.1 * tone(4.0, 44100, 5000)[:, 0]], 1)
    sf.write(tmp_path / "stereo.flac", y, 44100)
    facts, made = recording_pictures(tmp_path / "stereo.flac")
    assert (facts["sr"], facts["channels"], facts["n_clips"], facts["duration_s"]) == (44100, 2, 1, 4.0)
    loaded = librosa.load(tmp_path / "stereo.flac", sr=SR)[0]
    assert (off(made[0][0], reference(loaded[: 3 * SR])) <= 2).mean() > 0.999


def test_a_short_recording_is_looped_to_one_clip(tmp_path):
    y = tone(1.1)[:, 0]
    sf.write(tmp_path / "short.wav", y, SR, subtype="FLOAT")
    facts, made = recording_pictures(tmp_path / "short.wav")
    assert facts["n_clips"] == 1 and off(made[0][0], reference(np.resize(y, 3 * SR))).max() <= 2


def test_silence_and_strangers_are_named(tmp_path):
    sf.write(tmp_path / "silence.wav", np.zeros(SR), SR)
    with pytest.raises(UnusableAudio):
        recording_pictures(tmp_path / "silence.wav")
    store = build_images(little_corpus(tmp_path / "in", 6), SHORT, tmp_path / "store", progress=False)
    assert len(store) == store.index.n_clips.sum() == len(store.images) and store.index.n_clips["r05"] == 2
    with pytest.raises(KeyError, match="nobody"):
        store.rows(["nobody.000"])


def made_up(n_classes, tracks, clips):
    "Table and clips of a study; numbers of tracks and clips as functions of a generator."
    rng = np.random.default_rng(n_classes)
    table = pd.DataFrame(
        [dict(recording_id=f"{c}.{k:05d}", label=f"class {c}") for c in range(n_classes) for k in range(tracks(rng))]
    )
    return table, pd.DataFrame(
        [dict(clip_id=f"{r}.{k:03d}", recording_id=r) for r in table.recording_id for k in range(clips(rng))]
    )


@pytest.mark.parametrize("seed", range(3))
def test_splits_keep_tracks_whole_and_classes_in_share(seed):
    table, clips = made_up(6, lambda rng: rng.integers(3, 60), lambda rng: rng.integers(1, 11))
    split = split_clips(clips, table, seed)
    assert list(split.clip_id) == list(clips.clip_id) and set(split.track) == set(split["clip"]) == {
        "train",
        "validation",
        "test",
    }
    assert split.groupby("recording_id").track.nunique().max() == 1 and twin_clips(split, "track") == 0
    sides = split.drop_duplicates("recording_id").groupby("label").track
    for _, side in sides:
        n, counts = len(side), side.value_counts()
        for name in ("validation", "test"):
            assert counts[name] == max(1, round(0.1 * n))
    for _, side in split.groupby("label")["clip"]:
        assert side.value_counts()["test"] == max(1, round(0.1 * len(side)))
    assert twin_clips(split, "clip") > 0.5  # the leak
    assert not split.equals(split_clips(clips, table, seed + 1)) and split.equals(split_clips(clips, table, seed))


def test_gtzan_is_split_as_published():
    table, clips = made_up(10, lambda rng: 100, lambda rng: 10)
    split = split_clips(clips, table)
    for way in ("track", "clip"):
        assert split[way].value_counts().to_dict() == {"train": 8000, "validation": 1000, "test": 1000}
    assert set(split.groupby(["label", "track"]).size()) == set(split.groupby(["label", "clip"]).size()) == {800, 100}


def test_splits_that_cannot_be_drawn():
    table, clips = made_up(2, lambda rng: 2, lambda rng: 4)
    with pytest.raises(ValueError, match="at least 3"):
        split_clips(clips, table)
    with pytest.raises(ValueError, match="add up to 1"):
        split_clips(clips, table, shares=(0.8, 0.1, 0.2))
    with pytest.raises(ValueError, match="does not name"):
        split_clips(clips, table[:1])


def test_run_sets_copies_and_rare_classes_aside(tmp_path):
    band = make_band(tmp_path / "band", 3, 4, 3.5, progress=False)
    (band / "genres" / "waltz" / "waltz.00009.flac").write_bytes(
        (band / "genres" / "waltz" / "waltz.00002.flac").read_bytes()
    )
    (band / "genres" / "techno" / "techno.00009.flac").write_text("no music")
    for k in (0, 1):
        (band / "genres" / "lullaby" / f"lullaby.0000{k}.flac").unlink()
    run = tmp_path / "run"
    prepare_images(load_gtzan(band), run, tmp_path / "store", SHORT, progress=False)
    aside = read_text_table(run / "quarantine.csv").set_index("recording_id")
    assert sorted(aside.index) == ["lullaby.00002", "lullaby.00003", "techno.00009", "waltz.00009"]
    assert "waltz.00002" in aside.reason["waltz.00009"] and "2 of lullaby" in aside.reason["lullaby.00002"]
    data = open_images(run)
    assert sorted(data.items.recording_id.unique()) == [f"{g}.0000{k}" for g in ("techno", "waltz") for k in range(4)]
    assert len(data.items) == 8 * 7 and data.classes == ["techno", "waltz"] and list(data.stores) == ["pictures"]
    assert set(data.splits) == {"clip_id", "recording_id", "track", "clip"}
    assert (data.items.label == data.items.recording_id.str.partition(".")[0]).all()
    assert read_json(run / "data.json")["n_recordings"] == 8 and read_json(run / "data.json")["synthetic"] is True
    assert read_json(run / "images.json") == dict(
        folder=str((tmp_path / "store").resolve()), key=SHORT.key, config=json.loads(json.dumps(vars(SHORT)))
    )
    before = bytes_of(run)
    prepare_images(load_gtzan(band), run, tmp_path / "store", SHORT, progress=False)
    assert bytes_of(run) == before


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "An image store, its clips and their labels."
    folder = tmp_path_factory.mktemp("small")
    table = load_gtzan(make_band(folder / "band", 2, 4, 3.5, progress=False))
    store = build_images(table, SHORT, folder / "store", progress=False)
    return store, store.clips.clip_id, store.clips.recording_id.str.partition(".")[0]


def test_batches_hold_every_picture_once_an_epoch(small):
    store, ids, labels = small
    task = Task(("techno", "waltz"))
    generator = ImageGenerator(store, ids, labels, task, batch_size=10, seed=2)
    assert len(generator) == 6 and [len(generator[i][0]) for i in range(6)] == [10] * 5 + [6]
    orders = []
    for epoch in (0, 1, 0):
        generator.set_epoch(epoch)
        x, y = (np.concatenate(parts) for parts in zip(*(generator[i] for i in range(6)), strict=True))
        for picture, target, row in zip(x, y, generator.order, strict=True):
            np.testing.assert_allclose(picture, store.images[row] / 255, atol=1e-6)
            assert task.classes[target.argmax()] == labels[row] and target.sum() == 1
        assert sorted(generator.order) == list(range(56)) and x.dtype == y.dtype == np.float32
        orders.append(list(generator.order))
    assert orders[0] == orders[2] != orders[1]
    with pytest.raises(IndexError):
        generator[6]
    still = ImageGenerator(store, ids[::-1], labels[::-1], task, shuffle=False)
    np.testing.assert_array_equal(still[0][0], still.windows(3)[0])
    np.testing.assert_allclose(still[0][0] * 255, store.images[::-1], atol=1e-3)


def test_batches_of_several_labels_and_augmented_ones(small):
    store, ids, labels = small
    both = ImageGenerator(
        store, ids[:2], ["techno,waltz", "waltz"], Task(("techno", "waltz"), multi_label=True), shuffle=False
    )
    assert both[0][1].tolist() == [[1, 1], [0, 1]]

    def make(seed):
        return ImageGenerator(
            store, ids, labels, Task(("techno", "waltz")), seed=seed, augmentation=Augmentation(mixup=1.0)
        )

    a, again, other = make(1), make(1), make(2)
    np.testing.assert_array_equal(a[0][0], again[0][0])
    assert not np.array_equal(a[0][0], other[0][0]) and ((a[0][1] > 0) & (a[0][1] < 1)).any()  # mixed labels
    np.testing.assert_allclose(a.windows()[0] * 255, store.images, atol=1e-3)  # for testing, as they are
    plain = ImageGenerator(store, ids, labels, Task(("techno", "waltz")), seed=1)
    assert a.facts() == again.facts() and len({a.facts(), other.facts(), plain.facts()}) == 3
    with pytest.raises(ValueError, match="polka"):
        ImageGenerator(store, ids, ["polka"] * len(ids), Task(("techno", "waltz")))
    with pytest.raises(ValueError, match="one label per clip"):
        ImageGenerator(store, ids, [], Task(("techno", "waltz")))


def test_real_tracks(shared_data, tmp_path):
    table = load_gtzan(shared_data / "instruments")
    assert len(table) == 200
    store = build_images(table, ImageConfig(), tmp_path / "store", progress=False)
    assert len(store.index) + len(store.quarantine) == 200 and len(store.quarantine) == 0
    long = [sf.info(p).duration >= 6 for p in table.path]
    assert all(store.index.n_clips[table.recording_id[k]] == 2 for k in np.flatnonzero(long))
    for k, row in enumerate(table.itertuples()):
        y, picture = sf.read(row.path, dtype="float32")[0], store[f"{row.recording_id}.000"]
        y = y[: 3 * SR] if len(y) >= 3 * SR else np.resize(y, 3 * SR)
        assert off(picture, reference(y)).max() <= 2, row.recording_id
        if k % 20 == 0:
            assert (off(picture, drawn(y)) == 0).mean() > 0.999, row.recording_id
            assert off(ours(y, NEAREST), reference(y, NEAREST)).max() <= 2, row.recording_id
