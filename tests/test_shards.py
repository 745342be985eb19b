"""Shards against TensorFlow, which reads and writes the same files, and against everything that happens to files."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT, at_work, bytes_of, wait_until
from hypothesis import given
from hypothesis import strategies as st

from avianspec.learning.shard_batches import ShardBatches, cache_file, shard_dataset
from avianspec.learning.tasks import Task
from avianspec.stores import shards as module
from avianspec.stores.shards import ShardConfig, Shards, monitoring_subset, shard_rows, write_shards
from avianspec.stores.tfrecords import crc32c, decode_example, encode_example, read_record, write_record

CFG = ShardConfig(sr=8000, n_samples=4000, shard_mb=0.024)  # three examples a shard
TASK = Task(("F", "M"))
TONE = 0.1 * np.sin(np.arange(4000))


def sounds(folder, n=12, sr=8000, n_samples=4000):
    "Table of noises, 16-bit WAV, which are written into a folder."
    folder.mkdir(exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    for k in range(n):
        path = folder / f"noise{k:02d}.wav"
        sf.write(path, rng.uniform(-1, 1, n_samples), sr, subtype="PCM_16")
        rows.append(dict(recording_id=path.stem, label="FM"[k % 2], path=str(path)))
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    return sounds(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="session")
def written(table, tmp_path_factory):
    "A set that no test may change."
    return write_shards(table, tmp_path_factory.mktemp("shards"), "train", CFG, progress=False)


@pytest.fixture
def made(written, tmp_path):
    "A copy of that set, to be spoilt."
    shutil.copytree(written.folder, tmp_path / "set")
    return Shards(tmp_path / "set", "train", CFG)


def shard_files(folder):
    return sorted(p.name for p in folder.rglob("*.tfrecords") if p.parent == folder)


def set_of(folder):
    "Names and contents of what is finished in a folder."
    return {name: data for name, data in bytes_of(folder).items() if name[0] != "."}


def write(table, folder, subset="train", cfg=CFG, **how):
    return write_shards(table, folder, subset, cfg, progress=False, **how)


# ---- the format


@given(st.binary(max_size=100), st.integers(0, 20))
def test_checksum_is_that_of_its_definition(data, start):
    crc = 0xFFFFFFFF
    for byte in data[start:]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(memoryview(data)[start:]) == crc ^ 0xFFFFFFFF


features = st.dictionaries(
    st.text(max_size=5),
    st.binary(max_size=200) | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    max_size=4,
)


@given(features)
def test_examples_are_tensorflows(features):
    import tensorflow as tf

    theirs = tf.train.Example.FromString(encode_example(features))
    assert set(theirs.features.feature) == set(features)
    for name, value in features.items():
        kind = theirs.features.feature[name]
        assert list(kind.int64_list.value) == value if isinstance(value, list) else kind.bytes_list.value == [value]
    ours = decode_example(theirs.SerializeToString())
    assert ours == {name: value if isinstance(value, list) else [value] for name, value in features.items()}


def test_files_that_tensorflow_writes_are_read_and_the_other_way_round(tmp_path, written):
    import tensorflow as tf

    records = [b"", b"one", os.urandom(100_000)]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for data in records:
            writer.write(data)
    with open(tmp_path / "theirs", "rb") as file:
        assert [*iter(lambda: read_record(file), None)] == records
    with open(tmp_path / "ours", "wb") as file:
        for data in records:
            write_record(file, data)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()

    files = [str(p) for p in written.files]
    examples = [tf.train.Example.FromString(d.numpy()).features.feature for d in tf.data.TFRecordDataset(files)]
    assert [e["label"].bytes_list.value[0].decode() for e in examples] == list(written.index.label)
    assert {(*e["sampling_rate"].int64_list.value, *e["shape"].int64_list.value) for e in examples} == {(8000, 4000, 1)}
    for (_, y), e in zip(written, examples, strict=True):
        np.testing.assert_array_equal(np.frombuffer(e["samples"].bytes_list.value[0], "<i2") / np.float32(32768), y)


# ---- what is written


def test_names_sizes_and_facts_are_as_promised(table, written):
    names = [f"{k}_4_train.tfrecords" for k in (1, 2, 3, 4)]
    assert shard_files(written.folder) == names == [p.name for p in written.files]
    facts = json.loads((written.folder / "train.json").read_text(encoding="utf-8"))
    assert (facts["examples"], facts["labels"], list(facts["shards"])) == (12, {"F": 6, "M": 6}, names)
    for path in written.files:
        assert facts["shards"][path.name]["bytes"] == path.stat().st_size >= 1e6 * CFG.shard_mb
        assert facts["shards"][path.name]["sha256"] == module.file_sha256(path)
    by_name = table.set_index("recording_id")
    assert sorted(written.index.recording_id) == sorted(table.recording_id) != list(written.index.recording_id)
    for name, (label, y) in zip(written.index.recording_id, written, strict=True):
        assert label == by_name.label[name]
        np.testing.assert_array_equal(y, sf.read(by_name.path[name], dtype="float32")[0])  # 16 bits lose nothing


def test_shards_of_the_authors_size():
    "38 minutes make 100 MB, and no shard is smaller."
    for n in (1, 38, 76, 100, 800, 8000):
        named = shard_rows(n, "train", ShardConfig())
        sizes = [len(rows) for rows in named.values()]
        assert sum(sizes) == n and (min(sizes) >= 38 or len(sizes) == 1) and max(sizes) < 76
        assert sorted(named) == list(named) and all(name.endswith(f"_{len(sizes)}_train.tfrecords") for name in named)


def test_same_bytes_whatever_jobs_and_other_bytes_for_another_seed(table, tmp_path, written):
    write(table, tmp_path / "three", jobs=3)
    assert set_of(tmp_path / "three") == set_of(written.folder)
    write(table, tmp_path / "seed", seed=1)
    write(table, tmp_path / "none", seed=None)
    assert (tmp_path / "seed/1_4_train.tfrecords").read_bytes() != written.files[0].read_bytes()
    assert list(Shards(tmp_path / "none", "train").index.recording_id) == list(table.recording_id)


def test_floats_are_kept_bit_for_bit(tmp_path):
    y = np.float32([1e-30, -3, 0.1, 2**-24])
    sf.write(tmp_path / "loud.wav", y, 8000, subtype="FLOAT")
    table = pd.DataFrame(dict(recording_id=["a"], label=["F"], path=[str(tmp_path / "loud.wav")]))
    cfg = ShardConfig(8000, 4, "float32")
    np.testing.assert_array_equal(write(table, tmp_path / "set", cfg=cfg)[0][1], y)
    x = next(shard_dataset(Shards(tmp_path / "set", "train"), Task(("F", "M"))).as_numpy_iterator())[0]
    np.testing.assert_array_equal(x[0, :, 0], y)
    with pytest.raises(ValueError, match=r"loud.wav cannot be put into a shard: its peak is 3.000"):
        write(table, tmp_path / "ints", cfg=ShardConfig(8000, 4))


def other_rate(path):
    sf.write(path, TONE, 16000)


def short(path):
    sf.write(path, TONE[1:], 8000)


def long(path):
    sf.write(path, np.append(TONE, 0), 8000)


def cut(path):
    path.write_bytes(path.read_bytes()[:4000])


def text(path):
    path.write_text("this is no sound", encoding="utf-8")


@pytest.mark.parametrize(
    "spoil, words",
    [
        (other_rate, "its sampling rate is 16,000 Hz, and 8,000 Hz were asked for"),
        (short, "it has 3,999 samples, and 4,000 were asked for"),
        (long, "it has 4,001 samples, and 4,000 were asked for"),
        (cut, ""),
        (text, ""),
        (lambda path: path.unlink(), ""),
    ],
    ids=["rate", "short", "long", "cut", "text", "missing"],
)
def test_a_file_that_cannot_be_kept_is_named_and_the_older_set_stays(tmp_path, spoil, words):
    table = sounds(tmp_path / "sounds")
    write(table, tmp_path / "set")
    before = set_of(tmp_path / "set")
    spoil(tmp_path / "sounds" / "noise07.wav")
    with pytest.raises(ValueError, match=rf"noise07\.wav cannot be put into a shard: {words}"):
        write(table, tmp_path / "set")
    assert set_of(tmp_path / "set") == before and len(Shards(tmp_path / "set", "train")) == 12
    with pytest.raises(ValueError, match=r"noise07\.wav"):
        write(table, tmp_path / "new")
    assert not shard_files(tmp_path / "new")
    with pytest.raises(FileNotFoundError, match="holds no finished shards of train; make them with write_shards"):
        Shards(tmp_path / "new", "train")


def test_only_shards_that_changed_are_written_again(tmp_path, monkeypatch):
    table = sounds(tmp_path / "sounds")
    shards = write(table, tmp_path / "set")
    real, wrote = module._write_shard, []
    monkeypatch.setattr(module, "_write_shard", lambda path, *rest: [wrote.append(path.name), real(path, *rest)][1])
    write(table, tmp_path / "set")
    assert not wrote
    of = shards.index.set_index("recording_id").file
    sf.write(table.path[3], TONE, 8000)
    np.testing.assert_allclose(write(table, tmp_path / "set").samples(list(of.index).index("noise03")), TONE, atol=1e-4)
    assert wrote == [of["noise03"]]
    table.loc[5, "label"] = "F"
    assert write(table, tmp_path / "set").index.set_index("recording_id").label["noise05"] == "F"
    assert wrote[1:] == [of["noise05"]]
    assert shard_files(tmp_path / "set") == sorted(set(of))
    assert shard_files(write(table[:6], tmp_path / "set").folder) == ["1_2_train.tfrecords", "2_2_train.tfrecords"]


def test_several_subsets_in_one_folder_and_odd_names(table, tmp_path):
    folder = tmp_path / "Käuzchen [1] *? 'x' «鳥»"
    for subset, rows in {"1": table[:4], "2": table[4:8], "3_2": table[8:]}.items():
        write(rows, folder, subset, seed=None)
    both = Shards(folder, ["1", "3_2"])
    assert list(both.index.recording_id) == [f"noise{k:02d}" for k in (0, 1, 2, 3, 8, 9, 10, 11)]
    assert set(both.index.subset) == {"1", "3_2"} and both[7][0] == "M"
    got = np.concatenate([x for x, _ in shard_dataset(both, TASK, 3, cache=folder / "cache").as_numpy_iterator()])
    np.testing.assert_array_equal(got[..., 0], np.stack([y for _, y in both]))
    for name in ("", "../x", ".x", "a/b", "x*"):
        with pytest.raises(ValueError, match="A subset is named by letters, digits"):
            write(table, folder, name)
    with pytest.raises(ValueError, match="at least one recording"):
        write(table[:0], folder)


def test_other_settings_and_other_files_are_refused(table, made):
    with pytest.raises(ValueError, match="(?s)of the settings .* not .*n_samples': 4000.*n_samples': 8000"):
        write(table, made.folder, cfg=ShardConfig(8000, 8000))
    with pytest.raises(ValueError, match="of the settings"):
        Shards(made.folder, "train", ShardConfig(8000, 4000))
    (made.folder / "5_5_train.tfrecords").write_bytes(b"of another program")
    for do in (lambda: write(table, made.folder), lambda: Shards(made.folder, "train")):
        with pytest.raises(ValueError, match="none of its set train: 5_5_train.tfrecords. Move them away"):
            do()
    (made.folder / "train.json").write_text("[]", encoding="utf-8")
    for do in (lambda: write(table, made.folder), lambda: Shards(made.folder, "train")):
        with pytest.raises(ValueError, match="train.json does not hold the facts of shards"):
            do()
    (made.folder / "train.json").unlink()
    with pytest.raises(ValueError, match="none of its set train: 1_4_train.tfrecords"):
        write(table, made.folder)  # nobody knows whose they are: not written over
    assert (made.folder / "5_5_train.tfrecords").read_bytes() == b"of another program"


# ---- what happens to files


def refused(shards, words):
    "Whatever is asked of a set, the shard is named before a batch comes."
    for feed in (shard_dataset, ShardBatches):
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            feed(Shards(shards.folder, "train"), TASK)


@pytest.mark.parametrize("left", ["none", "one example", "within", "one byte less", "one byte more"])
def test_a_shard_of_another_length_is_named_and_refused(made, left):
    import tensorflow as tf

    path = made.files[1]
    data, second = path.read_bytes(), made.index.start[made.index.file == path.name].iloc[1]
    keep = {"none": 0, "one example": second, "within": second + 100, "one byte less": -1}.get(left, len(data))
    path.write_bytes(data[:keep] + (b"\0" if left == "one byte more" else b""))
    if left == "one example":  # and TensorFlow says nothing
        assert len(list(tf.data.TFRecordDataset(str(path)))) == 1
    what = "is too long" if left == "one byte more" else "is cut off"
    refused(made, rf"2_4_train\.tfrecords {what}: it has [\d,]+ bytes of [\d,]+; copy it again")


@pytest.mark.parametrize("share", np.linspace(0, 1, 12, endpoint=False))
def test_an_altered_byte_is_noticed_wherever_it_is(made, share):
    data = bytearray(made.files[2].read_bytes())
    data[int(share * len(data)) + 1] ^= 4
    made.files[2].write_bytes(data)
    words = rf"{made.files[2].name} (is altered|is no TFRecord)"
    with pytest.raises(ValueError, match=words):
        shard_dataset(made, TASK)
    with pytest.raises(ValueError, match=words):
        ShardBatches(made, TASK).windows()


def test_every_byte_of_a_small_shard_counts(tmp_path):
    sf.write(tmp_path / "a.wav", np.float32([0.1, 0.2]), 8000, subtype="PCM_16")
    table = pd.DataFrame(dict(recording_id=["a"], label=["F"], path=[str(tmp_path / "a.wav")]))
    shards = write(table, tmp_path / "set", cfg=ShardConfig(8000, 2))
    data = shards.files[0].read_bytes()
    for k in range(len(data)):
        shards.files[0].write_bytes(data[:k] + bytes([data[k] ^ 1]) + data[k + 1 :])
        with pytest.raises(ValueError, match="1_1_train.tfrecords"):
            Shards(tmp_path / "set", "train").verify()
    shards.files[0].write_bytes(data)
    shards.verify()


def test_a_shard_that_is_missing_or_of_another_set_is_named(table, made):
    first = made.files[0].read_bytes()
    made.files[0].unlink()
    refused(made, r"1_4_train\.tfrecords is missing: copy it again")
    made.files[0].write_bytes(made.files[3].read_bytes())  # of the same length, each record in order
    assert len(made.files[3].read_bytes()) == len(first)
    refused(made, r"1_4_train\.tfrecords is altered or of another set: example 0")
    made.files[0].write_bytes(b"RIFF" + bytes(len(first) - 4))
    refused(made, r"1_4_train\.tfrecords is altered or of another set")
    made.files[0].unlink()
    made.files[0].mkdir()
    refused(made, r"1_4_train\.tfrecords is missing")
    made.files[0].rmdir()
    np.testing.assert_array_equal(write(table, made.folder).samples(0), made.samples(0))  # mended
    assert made.files[0].read_bytes() == first


def test_facts_that_say_other_than_the_shards_are_not_believed(made):
    path = made.folder / "train.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    for change, words in (
        (lambda f: f["config"].update(sr=16000), r"sampling_rate \[8000\], not \[16000\]"),
        (lambda f: f["config"].update(n_samples=2000), r"shape \[4000, 1\], not \[2000, 1\]; 8,000 bytes of samples"),
        (lambda f: f["config"].update(coding="float32"), "8,000 bytes of samples, not 16,000"),
        (lambda f: f["shards"]["1_4_train.tfrecords"]["label"].__setitem__(0, "?"), "label '[FM]', not '[?]'"),
    ):
        spoilt = json.loads(json.dumps(facts))
        change(spoilt)
        path.write_text(json.dumps(spoilt), encoding="utf-8")
        with pytest.raises(ValueError, match=f"the example of noise.. has {words}"):
            Shards(made.folder, "train").verify()
    path.write_text(json.dumps(facts)[:-20], encoding="utf-8")
    with pytest.raises(ValueError, match="train.json is not valid JSON"):
        Shards(made.folder, "train")


def test_a_shard_that_may_not_be_read_is_named(made, monkeypatch):
    def locked(path, *mode):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(module, "open", locked, raising=False)
    refused(made, r"1_4_train\.tfrecords cannot be read \(Permission denied\)")


def test_a_full_disk_is_explained_and_loses_nothing(table, tmp_path, monkeypatch, written):
    real, count = module.write_record, iter(range(10**6))

    def full(file, data):
        if next(count) >= 7:
            file.write(b"half a record")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_record", full)
        with pytest.raises(OSError, match="The disk is full .* recordings already done are kept"):
            write(table, tmp_path / "set", jobs=1)
    assert not shard_files(tmp_path / "set")
    assert shard_files(tmp_path / "set" / ".train-stage") == ["1_4_train.tfrecords", "2_4_train.tfrecords"]
    write(table, tmp_path / "set")
    assert set_of(tmp_path / "set") == set_of(written.folder)


WRITE = """
import sys, time
import pandas as pd
from avianspec.stores import shards as module

real = module.write_record
module.write_record = lambda *given: [time.sleep(0.03), real(*given)][1]  # slowly
cfg = module.ShardConfig(sr=8000, n_samples=4000, shard_mb=0.024)
module.write_shards(pd.read_csv(sys.argv[1]), sys.argv[2], "train", cfg, jobs=1, progress=False)
"""


def test_a_write_that_is_killed_leaves_no_set_and_goes_on(table, tmp_path, monkeypatch, written):
    table.to_csv(tmp_path / "table.csv", index=False)
    folder, stage = tmp_path / "set", tmp_path / "set" / ".train-stage"
    with at_work(WRITE, tmp_path / "table.csv", folder) as process:
        wait_until(lambda: (stage / "2_4_train.json").exists() and any(stage.glob(".3_4*")), process)
        process.kill()
    assert not shard_files(folder) and not (folder / "train.json").exists() and any(stage.glob(".3_4*"))
    with pytest.raises(FileNotFoundError, match="no finished shards of train"):
        Shards(folder, "train")
    wrote, real = [], module._write_shard
    monkeypatch.setattr(module, "_write_shard", lambda path, *rest: [wrote.append(path.name), real(path, *rest)][1])
    write(table, folder)
    assert sorted(wrote) == ["3_4_train.tfrecords", "4_4_train.tfrecords"] and not stage.exists()
    assert set_of(folder) == set_of(written.folder)


@pytest.mark.parametrize("older", [False, True], ids=["first set", "an older one before"])
@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_write_that_is_stopped_while_shards_are_moved_goes_on(table, tmp_path, monkeypatch, written, older, after):
    folder, real, moved = tmp_path / "set", os.replace, []
    if older:
        write(table.assign(label="F"), folder, seed=5)

    def replace(source, target):
        if str(target).startswith(str(folder / "train.json")) or os.fspath(target) in map(str, written_to):
            if len(moved) == after:
                raise KeyboardInterrupt
            moved.append(target)
        real(source, target)

    written_to = [folder / p.name for p in written.files]
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            write(table, folder)
    if not (older and after == 0):
        with pytest.raises((FileNotFoundError, ValueError), match="no finished shards|of another set|is cut off|long"):
            Shards(folder, "train")
    monkeypatch.setattr(module, "_write_shard", None)  # nothing is written again
    write(table, folder)
    assert set_of(folder) == set_of(written.folder)


# ---- feeding


def test_shards_are_read_without_tensorflow(written, tmp_path):
    code = f"""
import sys
from avianspec.learning.shard_batches import ShardBatches
from avianspec.learning.tasks import Task
from avianspec.stores.shards import Shards, monitoring_subset
x, y = ShardBatches(Shards({str(written.folder)!r}, "train"), Task(("F", "M")), 5)[0]
monitoring_subset(Shards({str(written.folder)!r}, "train"), {str(tmp_path / "few.npz")!r}, 2)
print(x.shape, y.shape, [m for m in ("tensorflow", "keras", "jax", "torch", "google.protobuf") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, encoding="utf-8", cwd=ROOT)
    assert done.stdout.strip() == "(5, 4000, 1) (5, 2) []"


def test_both_readers_give_the_same_examples(written):
    x, y = ShardBatches(written, TASK, shuffle=False).windows()
    for how in ({}, dict(cache="memory")):
        pairs = list(shard_dataset(written, TASK, 5, **how).as_numpy_iterator())
        np.testing.assert_array_equal(np.concatenate([a for a, _ in pairs]), x)
        np.testing.assert_array_equal(np.concatenate([b for _, b in pairs]), y)
        assert [len(a) for a, _ in pairs] == [5, 5, 2] and pairs[0][1].dtype == np.float32


def test_targets_of_several_labels(table, tmp_path):
    labels = ["F", "M", "F,M", ""] * 3
    shards = write(table.assign(label=labels), tmp_path / "set")
    task = Task(("F", "M"), multi_label=True)
    got = np.concatenate([y for _, y in shard_dataset(shards, task).as_numpy_iterator()])
    np.testing.assert_array_equal(got, task.targets(shards.index.label))
    with pytest.raises(ValueError, match="this task has several"):
        shard_dataset(shards, task, sparse=True)


def order_of(data, shards):
    "Numbers of the examples that come out of a pipeline, by their first sample."
    first = {float(y[0]): k for k, (_, y) in enumerate(shards)}
    return [first[float(s)] for x, _ in data.as_numpy_iterator() for s in x[:, 0, 0]]


def test_every_pass_has_its_order_and_every_seed_its_own(written):
    orders = [order_of(shard_dataset(written, TASK, 5, seed), written) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2] and sorted(orders[2]) == list(range(12))
    data = shard_dataset(written, TASK, 5, seed=0)
    assert [order_of(data, written), order_of(data, written)][0] == orders[0] != order_of(data, written)
    kept = shard_dataset(written, TASK, 5, seed=0, cache="memory")
    assert order_of(kept, written) != order_of(kept, written)
    endless = order_of(shard_dataset(written, TASK, 4, seed=0, repeat=True).take(6), written)
    assert sorted(endless[:12]) == sorted(endless[12:]) == list(range(12)) and endless[:12] != endless[12:]


def test_two_machines_share_out_the_files(written):
    from tensorflow.python.data.experimental.ops.distribute import _AutoShardDataset

    parts = [order_of(_AutoShardDataset(shard_dataset(written, TASK, 4, seed=0), 2, k), written) for k in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(12))
    files = [set(written.index.file[part]) for part in parts]
    assert len(files[0]) == len(files[1]) == 2 and not files[0] & files[1]


CACHE = """
import sys, time
from avianspec.learning.shard_batches import shard_dataset
from avianspec.learning.tasks import Task
from avianspec.stores.shards import Shards
data = shard_dataset(Shards(sys.argv[1], "train"), Task(("F", "M")), 1, cache=sys.argv[2])
for _ in data:
    time.sleep(0.5)
"""


def test_a_cache_of_one_process_at_a_time_and_begun_again_where_one_was_killed(made, tmp_path):
    place = tmp_path / "cache"
    with at_work(CACHE, made.folder, place, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: any(place.glob("*.lockfile")), process)
        with pytest.raises(ValueError, match="Another process caches .* name another folder"):
            shard_dataset(made, TASK, cache=place)
    time.sleep(0.1)
    data = shard_dataset(made, TASK, 4, cache=place)
    assert order_of(data, made) == list(range(12)) and any(place.glob("*.index")) and not any(place.glob("*.lockfile"))
    for path in made.files:
        path.unlink()
    assert len(list(data)) == 3


def test_shards_made_anew_are_cached_anew(table, tmp_path):
    before = cache_file(write(table, tmp_path / "set"), tmp_path / "cache")
    after = cache_file(write(table.assign(label="F"), tmp_path / "set"), tmp_path / "cache")
    assert before != after and cache_file(Shards(tmp_path / "set", "train"), tmp_path / "cache") == after


def test_facts_of_batches_change_with_the_shards(table, tmp_path, written):
    other = write(table, tmp_path / "set", seed=1)
    same = write(table, tmp_path / "copy")
    facts = [ShardBatches(s, TASK).facts() for s in (written, same, other)]
    assert facts[0] == facts[1] != facts[2]


def test_a_few_examples_are_of_each_label_as_many(table, tmp_path):
    shards = write(table.assign(label=["F"] * 9 + ["M"] * 3), tmp_path / "set")
    few = monitoring_subset(shards, tmp_path / "few.npz", n=5, seed=3)
    assert sorted(few["label"]) == ["F", "F", "F", "M", "M"] and few["x"].shape == (5, 4000, 1)
    assert sorted(monitoring_subset(shards, tmp_path / "more.npz", n=8)["label"]) == ["F"] * 5 + ["M"] * 3
    assert len(monitoring_subset(shards, tmp_path / "all.npz", n=99)["x"]) == 12
    again = monitoring_subset(shards, tmp_path / "again.npz", n=5, seed=3)
    assert list(again["recording_id"]) == list(few["recording_id"])
    others = [monitoring_subset(shards, tmp_path / "other.npz", 5, seed)["recording_id"] for seed in range(4)]
    assert len({tuple(names) for names in others}) > 1
    with np.load(tmp_path / "few.npz", allow_pickle=False) as kept:
        for name, values in few.items():
            np.testing.assert_array_equal(kept[name], values)
    for x, label, name in zip(few["x"], few["label"], few["recording_id"], strict=True):
        k = list(shards.index.recording_id).index(name)
        assert shards[k][0] == label
        np.testing.assert_array_equal(shards[k][1], x[:, 0])
