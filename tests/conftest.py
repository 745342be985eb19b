"""What the tests share: odd files made here, small demonstration runs, and real recordings where they are at hand."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def settle(environment):
    "Take out of the environment what a shell may hand down and no test means; children get the same."
    unwanted = {"COLUMNS", "LINES", "XENO_CANTO_KEY", "PYTHONWARNINGS", "NO_PROXY"}
    for name in [n for n in environment if n.upper() in unwanted or n.upper().endswith("_PROXY")]:
        del environment[name]
    environment |= {"KERAS_BACKEND": "tensorflow", "MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    environment.setdefault("AVIANSPEC_CACHE", str(ROOT / "data" / "cache"))


settle(os.environ)  # here, before a test or a library reads it
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # a machine with other work is slow, and no test fails for that


@contextmanager
def at_work(code, *arguments, **how):
    "A process that runs some code of ours and hears Control-C; gone when the test is over, whatever happened."
    # where the tests run in the background (`make test &`, nohup, cron) SIGINT is ignored, and children inherit that
    hears = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    with subprocess.Popen([sys.executable, "-c", hears + code, *map(str, arguments)], **how) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(reached, process, limit_s=600):
    "Wait for what a process must bring about; it may not end before. Long, as the machine may have other work."
    end = time.monotonic() + limit_s
    while not reached():
        assert process.poll() is None, f"it ended with {process.returncode} before it was to be stopped"
        assert time.monotonic() < end, f"it did not come to that within {limit_s} s"
        time.sleep(0.005)


def places_named(text, *places):
    "Folders of this machine that stand in a text; /usr and the like are on every one, and /data ends other paths."
    places = {str(p).rstrip("/") for p in places} - {"", "/usr", "/usr/local"}
    return [p for p in sorted(places) if re.search(rf"(?<![\w.~-]){re.escape(p)}(?![\w.-])", text)]


def tone(seconds=1.0, sr=22050, hz=2000, channels=1):
    "A quiet tone with a little noise, float32, (n_samples, channels)."
    t = np.arange(int(seconds * sr)) / sr
    noise = 0.001 * np.random.default_rng(0).standard_normal((len(t), channels))
    return (0.2 * np.sin(2 * np.pi * hz * t)[:, None] + noise).astype(np.float32)


def little_corpus(folder, n=12):
    "Table of `n` short wave files of different lengths and rates, which are written into a folder."
    folder.mkdir(exist_ok=True)
    paths = [folder / f"r{i:02d}.wav" for i in range(n)]
    for i, path in enumerate(paths):
        sr = [22050, 44100, 32000][i % 3]
        sf.write(path, tone(0.3 + 0.2 * i, sr, 1000 + 100 * i), sr)
    return pd.DataFrame({"recording_id": [p.stem for p in paths], "path": list(map(str, paths))})


def bytes_of(folder):
    "Names and contents of a folder's files."
    files = [p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name != ".lock"]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def sweep(seconds=1.5, sr=22050):
    "A tone that rises from 1 kHz, float32, (n_samples,)."
    t = np.arange(int(seconds * sr)) / sr
    return (0.4 * np.sin(2 * np.pi * (1000 * t + 900 * t**2))).astype(np.float32)


@pytest.fixture
def close_figures():
    "Tests that draw ask for this by `pytestmark`."
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.fixture
def shared_data():
    "Folder of real recordings; tests that need it are skipped where it is absent."
    if not SHARED.exists():
        pytest.skip("no folder ../shared/data with real recordings beside this clone")
    return SHARED


@pytest.fixture(scope="session")
def demo():
    "Run folder after preprocessing, of a tiny aviary."
    from avianspec.stores.preprocessing import demo_run

    return demo_run()


@pytest.fixture(scope="session")
def trained():
    "Run folder with a trained network."
    from avianspec.learning.training import demo_model_run

    return demo_model_run()


@pytest.fixture
def odd_files(tmp_path):
    "Files of many kinds: name to the verdict each must get (with the number of samples where it is usable)."
    sr = 22050
    kinds = {
        "mono 16 bit.wav": (tone(), sr, "PCM_16"),
        "eight bit.wav": (tone(), sr, "PCM_U8"),
        "24 bit.flac": (tone(), sr, "PCM_24"),
        "float.wav": (tone(), sr, "FLOAT"),
        "stereo.ogg": (tone(channels=2), sr, "VORBIS"),
        "eight channels.wav": (tone(channels=8), sr, "PCM_16"),
        "telephone.wav": (tone(sr=8000, hz=1000), 8000, "PCM_16"),
        "bat.wav": (tone(sr=192000, hz=20000), 192000, "PCM_16"),
        "one sample.wav": (tone()[1:2], sr, "PCM_16"),
        "Käuzchen 鳥 «test».mp3": (tone(), sr, "MPEG_LAYER_III"),
    }
    expected = {}
    for name, (y, rate, subtype) in kinds.items():
        sf.write(tmp_path / name, y, rate, subtype=subtype)
        expected[name] = ("usable", len(y))
    nan = tone()
    nan[100] = np.nan
    sf.write(tmp_path / "nan.wav", nan, sr, subtype="FLOAT")
    sf.write(tmp_path / "silence.wav", np.zeros(4410), sr)
    sf.write(tmp_path / "no samples.wav", np.zeros(0), sr)
    (tmp_path / "text.mp3").write_text("this is not music", encoding="utf-8")
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "folder.mp3").mkdir()
    sf.write(tmp_path / "long.mp3", tone(20), sr)
    (tmp_path / "truncated.mp3").write_bytes((tmp_path / "long.mp3").read_bytes()[:40000])
    (tmp_path / "long.mp3").unlink()
    expected |= {
        "nan.wav": ("unusable", None),
        "silence.wav": ("silent", None),
        "no samples.wav": ("unusable", None),
        "text.mp3": ("unusable", None),
        "empty.mp3": ("unusable", None),
        "folder.mp3": ("unusable", None),
        "truncated.mp3": ("damaged", None),
        "missing.mp3": ("unusable", None),
    }
    return tmp_path, expected


SLOWEST = (
    "test_catalogue",
    "test_pipeline",
    "test_contract",
    "test_ablation",
    "test_report",
    "test_tagging",
    "test_speech",
    "test_models_and_training",
    "test_cli",
)


def pytest_addoption(parser):
    parser.addoption("--nightly", action="store_true", help="all entries of the catalogue, too: hours")


def pytest_configure(config):
    config.addinivalue_line("markers", "nightly: takes long, and runs with --nightly only")


def pytest_collection_modifyitems(config, items):
    "Long files first, so that two workers end together; what is for the night is left out by day."
    if not config.getoption("--nightly"):
        late = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=late)
        items[:] = [item for item in items if item not in late]
    rank = {name: k for k, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(SLOWEST)))
