"""In the field: when each window begins and ends, and what a recording is called."""

import numpy as np
import pytest
import soundfile as sf
from conftest import tone

from avianspec.field.inference import identify, spans, window_probabilities, window_starts
from avianspec.learning.saved_model import SavedModel
from avianspec.learning.settings import WindowConfig
from avianspec.learning.tasks import Task
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


def test_neighbouring_windows_are_joined():
    start, end = np.array([0.0, 1, 2, 3, 4]), np.array([2.0, 3, 4, 5, 6])
    assert spans(np.array([True, True, False, False, True]), start, end) == [(0, 3), (4, 6)]
    assert spans(np.array([True, False, True, False, False]), start, end) == [(0, 4)]
    assert spans(np.zeros(5, bool), start, end) == []
