"""Every kind of store survives odd files, kills, lost workers, full disks, rivals and changes."""

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
from conftest import bytes_of, little_corpus, tone

from avianspec.files import read_json, write_json
from avianspec.sound.features import FeatureConfig
from avianspec.sound.pictures import ImageConfig
from avianspec.stores import store as base
from avianspec.stores.pictures import ImageStore, build_images
from avianspec.stores.preprocessing import FeatureStore, build_store
from avianspec.stores.store import finished_part, make_parts
from avianspec.stores.waves import WaveConfig, WaveStore, build_waves

SHORT = ImageConfig(clip_s=0.5, size=16)
KINDS = {
    "features": (FeatureStore, build_store, FeatureConfig(), FeatureConfig(n_mels=64)),
    "waves": (WaveStore, build_waves, WaveConfig(), WaveConfig(8000)),
    "pictures": (ImageStore, build_images, SHORT, ImageConfig(clip_s=0.5, size=24)),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param][0]


@pytest.fixture
def cfg(kind):
    return next(c for k, _, c, _ in KINDS.values() if k is kind)


@pytest.fixture
def other(kind):
    return next(c for k, _, _, c in KINDS.values() if k is kind)


@pytest.fixture
def build(kind, cfg, tmp_path):
    "Builds a store of a table in a folder of that name."
    function = next(b for k, b, _, _ in KINDS.values() if k is kind)

    def built(table, where="store", cfg=cfg, **how):
        return function(table, cfg, tmp_path / where, **(dict(progress=False) | how))

    return built


@pytest.fixture
def table(tmp_path):
    "Twelve short wave files of different lengths and rates."
    return little_corpus(tmp_path / "in")


@pytest.fixture
def written(kind, monkeypatch):
    "Names of the files that are decoded, as they are."
    real, names = kind.write_one, []

    def write_one(path, *rest, **files):
        names.append(Path(path).stem)
        return real(path, *rest, **files)

    monkeypatch.setattr(kind, "write_one", staticmethod(write_one))
    return names


def same(a, b):
    return bytes_of(a.folder) == bytes_of(b.folder)


def rows_of(store, recording_id):
    "What a store holds of a recording, as a list of arrays."
    return [np.array(getattr(store, n)[store.span(recording_id)]) for n, a in arrays_of(store) if not a.one_each]


def arrays_of(store):
    return store.arrays(store.config).items()


def test_a_store_is_the_same_whatever_the_number_of_threads(build, table):
    one, four = build(table, "one", jobs=1), build(table, "four", jobs=4)
    assert same(one, four) and list(one.index.index) == list(table.recording_id)
    assert sorted(p.name for p in one.folder.iterdir()) == [".lock", "config.json", one.data.name]
    for name, array in arrays_of(one):
        n_rows = len(table) if array.one_each else one.index[one.counted].sum()
        assert getattr(one, name).shape == (n_rows, *array.row) and getattr(one, name).dtype == array.dtype


def test_odd_files_are_quarantined_with_reasons_and_stop_nothing(odd_files, build):
    folder, expected = odd_files
    store = build(pd.DataFrame({"recording_id": list(expected), "path": [str(folder / n) for n in expected]}))
    found = dict.fromkeys(store.index.index, "usable") | store.quarantine.set_index("recording_id").verdict.to_dict()
    assert found == {name: verdict for name, (verdict, _) in expected.items()}
    assert (store.quarantine.reason != "").all() and "silence.wav" not in store
    with pytest.raises(KeyError, match=f"No {store.holds} of recording 'silence.wav'.*quarantine.csv"):
        store.span("silence.wav")


def test_nothing_usable_is_an_error_naming_a_file(tmp_path, kind, cfg, build):
    (tmp_path / "a.mp3").write_text("no")
    with pytest.raises(ValueError, match=r"None of the 1 recordings can be used; the first: .*a\.mp3"):
        build(pd.DataFrame({"recording_id": ["a"], "path": [str(tmp_path / "a.mp3")]}))
    with pytest.raises(FileNotFoundError, match=f"no finished {kind.holds} store; make one with build_"):
        kind(tmp_path / "store", cfg)


def test_a_path_that_cannot_even_be_looked_at_is_quarantined(tmp_path, build, table):
    table.loc[1, "path"] = str(tmp_path / ("x" * 300 + ".wav"))  # too long a name: looking at it raises
    store = build(table[:2])
    assert list(store.quarantine.recording_id) == ["r01"] and store.quarantine.reason[0].startswith("no such file")


def test_work_that_is_interrupted_is_taken_up_where_it_stopped(tmp_path, kind, build, table, written, monkeypatch):
    real = kind.write_one

    def fragile(path, cfg, **files):
        if len(written) == 3:
            raise KeyboardInterrupt
        return real(path, cfg, **files)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "write_one", staticmethod(fragile))
        with pytest.raises(KeyboardInterrupt):
            build(table, jobs=1)
    with pytest.raises(FileNotFoundError, match="no finished"):
        kind(tmp_path / "store")
    resumed = build(table, jobs=1)
    assert written == list(table.recording_id) and same(resumed, build(table, "fresh"))


KILLS = """
import itertools, json, os, random, signal, sys, threading, time
from pathlib import Path
import pandas as pd
sys.path.insert(0, sys.argv[1])
from test_stores import KINDS
from tqdm import tqdm
from avianspec.files import file_sha256
(kind, build, cfg, _), table = KINDS[sys.argv[2]], pd.read_csv(sys.argv[3])
store, log, parts = Path(sys.argv[4]), Path(sys.argv[5]), Path(sys.argv[4]) / "parts"
real, rng, kills = kind.write_one, random.Random(1), int(sys.argv[7])
tqdm.monitor_interval = 0                                 # a lock that a killed child shared would stay taken for ever
tqdm.set_lock(threading.RLock())
build(table, cfg, sys.argv[6], progress=False)            # undisturbed
def die(after_s):
    time.sleep(after_s)
    os.kill(os.getpid(), signal.SIGKILL)
def logged(path, *rest, **files):
    with open(log, "a") as f: f.write(path + "\\n")
    if next(begun) == last: threading.Thread(target=die, args=[after_s], daemon=True).start()
    return real(path, *rest, **files)
kind.write_one = staticmethod(logged)
before, again, unfinished = set(), [], 0
names = {path: f"{file_sha256(path)}-{cfg.key}-{kind.code()}" for path in table.path}
done = f"[!.]*.{next(iter(kind.arrays(cfg)))}"           # of each finished recording, written last
for k in range(kills):                                    # by parts begun, not by the clock: machines are loaded
    log.write_text("")
    left = len(table) - len(list(parts.glob(done)))
    begun, after_s = itertools.count(1), rng.uniform(0, 0.05)
    last = min(left, rng.randint(1, 2 * len(table) // kills))
    child = os.fork()
    if not child:
        if not left: threading.Thread(target=die, args=[after_s], daemon=True).start()
        build(table, cfg, store, progress=False)
        os._exit(0)
    os.waitpid(child, 0)
    again += [path for path in log.read_text().splitlines() if names[path] in before]
    before = {f.stem for f in parts.glob(done)} if parts.exists() else before
    unfinished += not (store / "config.json").exists()
log.write_text("")
last = 0                                                  # this time it lives
build(table, cfg, store, progress=False)
again += [path for path in log.read_text().splitlines() if names[path] in before]
print(json.dumps(dict(again=again, unfinished=unfinished, finished=len(before))))
"""


@pytest.mark.parametrize("name, n_files, kills", [("features", 300, 20), ("waves", 120, 10), ("pictures", 120, 10)])
def test_kills_give_the_same_store_and_repeat_nothing(tmp_path, name, n_files, kills):
    rng, rows = np.random.default_rng(0), []
    for i in range(n_files):
        path = tmp_path / f"r{i:03d}.wav"
        sf.write(path, 0.1 * rng.standard_normal(rng.integers(2000, 120000)), 44100)
        rows.append(dict(recording_id=path.stem, path=str(path)))
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    places = [str(tmp_path / n) for n in ("table.csv", "store", "log", "undisturbed")]
    command = [sys.executable, "-c", KILLS, str(Path(__file__).parent), name, *places, str(kills)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["again"] == [] and told["unfinished"] > kills / 4 and told["finished"] > n_files / 10
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    "damage", ["half its facts", "no facts", "no end", "another end", "an array cut short", "an array gone"]
)
def test_a_part_that_is_not_whole_is_made_again(tmp_path, kind, cfg, build, table, written, damage):
    names = make_parts(kind, list(table.path), cfg, tmp_path / "store" / "parts", progress=False)  # then cut off
    part, arrays = tmp_path / "store" / "parts" / names[3], kind.arrays(cfg)
    first, last = (part.with_suffix(f".{list(arrays)[k]}") for k in (0, -1))
    n_rows = next(iter(arrays.values())).row_bytes * finished_part(kind, cfg, part)[kind.counted]
    facts = first.read_bytes()[n_rows:]
    if damage == "half its facts":
        os.truncate(first, n_rows + 20)
    if damage == "no facts":
        os.truncate(first, n_rows)
    if damage == "no end":
        os.truncate(first, 4)
    if damage == "another end":
        first.write_bytes(first.read_bytes()[:n_rows] + b"5" + (1).to_bytes(8, "little"))
    if damage == "an array cut short" and first != last:
        os.truncate(last, last.stat().st_size - 1)
    elif damage == "an array cut short":
        first.write_bytes(first.read_bytes()[: n_rows - 1] + facts)
    if damage == "an array gone":
        last.unlink()
    written.clear()
    mended = build(table)
    assert written == ["r03"] and same(mended, build(table, "fresh"))


def test_a_part_that_a_worker_wrote_elsewhere_is_named(build, table, monkeypatch):
    monkeypatch.setattr(base, "make_parts", lambda *rest: [f"elsewhere-{k}" for k in range(len(table))])
    with pytest.raises(FileNotFoundError, match="elsewhere-0 is not there, or not whole; all workers must see this"):
        build(table)


@pytest.fixture(scope="module")
def cluster():
    "A dask cluster of one worker, inside this process."
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as one:
        yield one.scheduler_address


def test_a_cluster_makes_the_same_store(build, table, cluster):
    assert same(build(table, "cluster", scheduler=cluster), build(table, "threads"))


def test_a_cluster_that_loses_a_worker_makes_the_same_store(tmp_path):
    from distributed import LocalCluster

    table = little_corpus(tmp_path / "in", 40)
    build_store(table, FeatureConfig(), tmp_path / "threads", progress=False)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        lost = threading.Timer(0.3, lambda: os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL))
        lost.start()
        build_store(table, FeatureConfig(), tmp_path / "cluster", progress=False, scheduler=cluster.scheduler_address)
        lost.join()
    assert bytes_of(tmp_path / "threads") == bytes_of(tmp_path / "cluster")


def test_a_scheduler_that_does_not_answer_is_named(tmp_path, table):  # once: distributed may hang at a second failure
    with pytest.raises(ValueError, match="No dask scheduler answers at 'nonsense'.*dask scheduler"):
        build_store(table[:1], FeatureConfig(), tmp_path / "store", scheduler="nonsense", progress=False)


BOTH = """
import sys
import pandas as pd
sys.path.insert(0, sys.argv[1])
from test_stores import KINDS
for name, (_, build, cfg, _) in KINDS.items():
    build(pd.read_csv(sys.argv[2]), cfg, sys.argv[3] + name, progress=False)
"""


def test_two_processes_on_one_store_do_not_harm_each_other(tmp_path):
    table = little_corpus(tmp_path / "in", 30)
    table.to_csv(tmp_path / "table.csv", index=False)
    arguments = [str(Path(__file__).parent), str(tmp_path / "table.csv"), str(tmp_path / "both-")]
    both = [subprocess.Popen([sys.executable, "-c", BOTH, *arguments]) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    for name, (_, build, cfg, _) in KINDS.items():
        build(table, cfg, tmp_path / f"alone-{name}", progress=False)
        assert bytes_of(tmp_path / f"both-{name}") == bytes_of(tmp_path / f"alone-{name}")


def test_a_store_opened_while_another_process_renews_it_is_the_newer_one(tmp_path, kind, build, table, monkeypatch):
    build(table[:2])
    true, left = base.read_json, [1]

    def renewed_after_the_look(path):
        saved = true(path)
        if left and left.pop():
            build(table[:3])
        return saved

    monkeypatch.setattr(base, "read_json", renewed_after_the_look)
    assert list(kind(tmp_path / "store").index.index) == ["r00", "r01", "r02"]


def test_a_store_that_lacks_a_file_is_not_opened_for_ever(tmp_path, kind, build, table):
    (build(table[:2]).data / "index.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="index.parquet"):
        kind(tmp_path / "store")


@pytest.fixture
def full_disk(kind, monkeypatch):
    "Lets the disk be full after `n` recordings, half way through the next one."
    real = kind.write_one

    def full_after(n):
        count = iter(range(10**6))

        def write_one(path, cfg, **files):
            if next(count) >= n:
                next(iter(files.values())).write(b"half a recording")
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, cfg, **files)

        monkeypatch.setattr(kind, "write_one", staticmethod(write_one))

    return full_after


WORDS = "The disk is full .* Free some space and start again: recordings already done are kept"


def test_a_full_disk_is_explained_and_loses_nothing(tmp_path, kind, cfg, build, table, full_disk):
    full_disk(5)
    with pytest.raises(OSError, match=WORDS):
        build(table, jobs=1)
    left = list((tmp_path / "store" / "parts").iterdir())
    first = f".{next(iter(kind.arrays(cfg)))}"
    assert len([p for p in left if p.suffix == first]) == 5 and not [p for p in left if p.name.startswith(".")]
    full_disk(10**6)
    assert same(build(table), build(table, "other"))


def test_a_full_disk_while_joining_is_explained_and_loses_nothing(kind, build, table, monkeypatch, written):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(base, "_copy", full)
        with pytest.raises(OSError, match=WORDS):
            build(table)
    assert len(written) == 12 and len(build(table).index) == 12 and len(written) == 12


def test_a_full_disk_leaves_the_older_store_usable(tmp_path, kind, build, table, full_disk):
    before = rows_of(build(table[:8]), "r03")
    full_disk(1)
    with pytest.raises(OSError, match="disk is full"):
        build(table, jobs=1)
    old = kind(tmp_path / "store")
    assert len(old.index) == 8 and all(map(np.array_equal, rows_of(old, "r03"), before))
    full_disk(10**6)
    assert len(build(table).index) == 12


def test_only_what_changed_is_computed_again(tmp_path, build, table, other, written):
    build(table)
    assert sorted(written) == list(table.recording_id) and len(build(table).index) == 12
    assert len(written) == 12  # nothing the second time
    sf.write(table.path[4], tone(0.7, hz=3000), 22050)
    os.rename(table.path[0], tmp_path / "moved.wav")
    table.loc[0, "path"] = str(tmp_path / "moved.wav")
    store = build(table.iloc[10::-1])  # in another order, one fewer
    assert (
        written[12:] == ["r04"] and list(store.index.index) == list(table.recording_id[10::-1]) and "r11" not in store
    )
    assert same(store, build(table.iloc[10::-1], "fresh"))
    written.clear()
    build(table[:11], "other", other)
    assert len(written) == 11


def test_a_store_of_other_settings_is_refused_with_both_keys(tmp_path, kind, cfg, other, build, table):
    build(table[:2])
    for attempt in (lambda: build(table[:2], cfg=other), lambda: kind(tmp_path / "store", other)):
        with pytest.raises(ValueError, match=f"(?s){cfg.key}, not {other.key}.*Name another folder") as refusal:
            attempt()
        (name,) = [k for k, v in vars(cfg).items() if v != vars(other)[k]]
        for c in (cfg, other):
            assert f"'{name}': {vars(c)[name]}" in str(refusal.value)


def test_a_store_keeps_every_digit_of_its_settings_and_one_that_lost_some_is_mended(tmp_path, kind, cfg, build, table):
    assert build(table[:2]).config == cfg and kind(tmp_path / "store").config.key == cfg.key
    path = tmp_path / "store" / "config.json"
    rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in vars(cfg).items()}
    write_json(path, read_json(path) | {"config": rounded})  # as it was written once: amin 1e-10 became 0
    assert build(table[:2]).config == cfg and kind(tmp_path / "store").config == cfg


def test_parts_of_other_settings_are_not_taken(tmp_path, kind, other, build, table):
    make_parts(kind, list(table.path), other, tmp_path / "store" / "parts", progress=False)  # then killed
    assert same(build(table), build(table, "fresh"))


def test_the_bar_tells_the_speed_in_seconds_of_sound(kind, build, table, capsys):
    build(table, progress=True)
    shown = capsys.readouterr().err
    assert f"{kind.holds}s: 100%" in shown and "x real time" in shown


def test_another_sound_of_the_same_size_and_time_is_noticed(build, table, written):
    build(table)
    path = Path(table.path[4])
    before, (y, sr) = path.stat(), sf.read(path)
    sf.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, y.shape), sr)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    written.clear()
    assert same(build(table), build(table, "fresh")) and written[0] == "r04" and len(written) == 1 + len(table)
