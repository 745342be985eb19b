"""In the field: when each window begins and ends, and what a recording is called."""

import numpy as np
import pytest
import soundfile as sf
from conftest import tone

from avianspec.data.checkup import check_file
from avianspec.field.inference import identify, identify_files, window_probabilities
from avianspec.field.tag import tag_files
from avianspec.learning.generator import window_starts
from avianspec.learning.saved_model import SavedModel
from avianspec.learning.settings import WindowConfig
from avianspec.learning.tasks import Task
from avianspec.sound.audio import UnusableAudio
from avianspec.sound.features import FeatureConfig
from avianspec.stores.preprocessing import Statistics

SR, HOP = 16000, 1600  # ten frames a second
NOTHING = np.empty(0)
AS_IT_IS = {name: Statistics(0, 0.0, 1.0, NOTHING, NOTHING) for name in ("spectrogram", "mfcc")}


class Told:
    "A network that answers as it was told, one row for each window."

    def __init__(self, *rows):
        self.rows, self.heard = np.array(rows, np.float32), None

    def predict_on_batch(self, x):
        self.heard = x
        return self.rows[: len(x)]


def saved(model, n_frames=10, classes=("owl", "wren")):
    front_end = FeatureConfig(sr=SR, n_fft=2048, hop_length=HOP)
    return SavedModel(model, Task(classes), "spectrogram", front_end, WindowConfig(n_frames), statistics=AS_IT_IS)


def test_windows_have_their_times(tmp_path):
    sf.write(tmp_path / "a.wav", tone(2.75, SR), SR)  # 1 + 44,000 // 1,600 = 28 frames
    rows = [[0.5, 0.5]] * 5
    windows, note = window_probabilities(saved(Told(*rows)), tmp_path / "a.wav")
    assert windows.start_s.tolist() == pytest.approx([0, 0.5, 1, 1.5, 1.8]) and note == ""  # the last one ends with it
    assert windows.end_s.tolist() == pytest.approx([1, 1.5, 2, 2.5, 2.75])  # and not after it
    assert window_starts(28, 10).tolist() == [0, 5, 10, 15, 18] and window_starts(4, 10).tolist() == [0]
    sf.write(tmp_path / "short.wav", tone(0.5, SR), SR)
    short, _ = window_probabilities(saved(Told(*rows)), tmp_path / "short.wav")
    assert short[["start_s", "end_s"]].values.tolist() == [[0, 0.5]]


def test_a_recording_is_named_by_the_mean_of_its_windows(tmp_path):
    sf.write(tmp_path / "a.wav", tone(2.5, SR), SR)  # 26 frames: windows at 0, 0.5, 1, 1.5 and 1.6 s
    told = Told([0.1, 0.9], [0.7, 0.3], [0.7, 0.3], [0.7, 0.3], [0.1, 0.9])
    named = identify(saved(told), tmp_path / "a.wav", top=2)
    assert named.label.tolist() == ["wren", "owl"] or named.probability.tolist() == pytest.approx([0.54, 0.46])
    sure = Told([0.0, 1.0], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2])  # one window is sure, four agree
    named = identify(saved(sure), tmp_path / "a.wav", top=2).set_index("label")
    assert named["rank"].to_dict() == {"owl": 1, "wren": 2}
    assert named.probability.to_dict() == pytest.approx({"owl": 0.64, "wren": 0.36})
    assert named.spans.to_dict() == {"owl": "0.5-2.5", "wren": "0.0-1.0"}
    assert named.path.tolist() == [str(tmp_path / "a.wav")] * 2


def test_nothing_is_identified_where_there_is_no_sound(tmp_path):
    sound, zeros = tone(3.0, SR), np.zeros((3 * SR, 1), np.float32)
    sf.write(tmp_path / "ends.wav", np.concatenate([sound, zeros]), SR)
    sf.write(tmp_path / "begins.wav", np.concatenate([zeros, sound]), SR)
    told = Told(*[[0.9, 0.1]] * 20)
    for name, low, high in (("ends.wav", 0, 3.1), ("begins.wav", 2.9, 6)):
        windows, note = window_probabilities(saved(told), tmp_path / name)
        assert windows.start_s.min() >= low and windows.end_s.max() <= high and "3.0 s of it (50 %)" in note
        assert len(windows) == len(told.heard) < 11  # of 11 windows those with sound
        a, b = map(float, identify(saved(told), tmp_path / name, top=1).spans[0].split("-"))
        assert low <= a < b <= high


def test_identification_says_of_a_file_what_the_check_up_says(tmp_path):
    y = tone(2.0, SR)
    files = {
        "clipped.wav": np.clip(20 * y, -1, 1),
        "one empty.wav": np.hstack([y, 0 * y]),
        "opposed.wav": np.hstack([y, -y]),
        "integers.wav": 32768 * y,
    }
    for name, samples in files.items():
        sf.write(tmp_path / name, samples, SR, subtype="FLOAT" if name == "integers.wav" else "PCM_16")
    sf.write(tmp_path / "slow.wav", tone(2.0, 8000), 8000)
    whole = (tmp_path / "clipped.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    sf.write(tmp_path / "zeros.wav", 0 * y, SR)
    (tmp_path / "slowest.wav").write_bytes(whole[:24] + (100).to_bytes(4, "little") + whole[28:])
    paths = sorted(tmp_path.glob("*.wav"))
    answers, refused = identify_files(saved(Told(*[[0.9, 0.1]] * 40)), paths, top=1)
    checked = {str(p): check_file(p, want_sr=SR) for p in paths}
    said = dict(zip(answers.path, answers.note, strict=True)) | {e.path: e.reason for e in refused}
    assert {path: note.removeprefix("damaged: ") for path, note in said.items()} == {
        path: row["reason"] for path, row in checked.items()
    }
    assert [e.verdict for e in refused] == ["unusable", "silent"] and all(said.values()) and len(said) == 8


def test_a_sound_below_what_the_network_hears_gets_no_answer(tmp_path):
    sf.write(tmp_path / "a.wav", 1e-8 * tone(2.0, SR), SR, subtype="DOUBLE")
    with pytest.raises(UnusableAudio, match="no sound in it that the network could hear"):
        identify(saved(Told([0.9, 0.1])), tmp_path / "a.wav")


def test_what_a_model_does_not_know_is_said_and_not_tagged(tmp_path):
    sf.write(tmp_path / "a.wav", tone(2.5, SR), SR)  # windows at 0, 0.5, 1, 1.5 and 1.6 s
    rows = [[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.6, 0.4], [0.6, 0.4]]
    level = dict(threshold=0.75, keep=0.9, unknown=dict(share=0.25))
    setting = dict(recording=level, window=level, n_classes=2)
    named = identify(saved(Told(*rows)), tmp_path / "a.wav", setting=setting)  # 0.71 over all windows
    assert (
        named.unknown.tolist()
        == [
            "none of the 2 species it knows, as far as it can tell (of recordings it would name rightly it still names "
            "90 %; of those of species it does not know, about 25 % get a name all the same)"
        ]
        * 2
    )
    sure = identify(saved(Told(*rows[:2] * 3)), tmp_path / "a.wav", setting=setting)
    assert not sure.unknown.any() and not identify(saved(Told(*rows)), tmp_path / "a.wav").unknown.any()
    padded = saved(Told(*rows, *rows[-1:] * 11))  # a model is asked about sixteen windows at a time
    spans = {
        known is None: [e[1:4] for e in next(tag_files([str(tmp_path / "a.wav")], padded, setting=known))["events"]]
        for known in (None, setting)
    }
    assert spans == {True: [[0, pytest.approx(2.5), "owl"]], False: [[0, pytest.approx(1.5), "owl"]]}
