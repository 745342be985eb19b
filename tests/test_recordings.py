"""Reading any file, loading any table, splitting without leaks."""

import csv

import numpy as np
import pandas as pd
import pytest

from avianspec.data.recordings import validate
from avianspec.files import Note
from avianspec.sound.audio import UnusableAudio, loudness, read_audio, to_mono


def verdict(path):
    try:
        return read_audio(path).verdict
    except UnusableAudio as e:
        return e.verdict


def test_every_odd_file_gets_its_verdict(odd_files):
    folder, expected = odd_files
    assert {name: verdict(folder / name) for name in expected} == {name: v for name, (v, _) in expected.items()}


def test_usable_files_keep_all_their_samples(odd_files):
    folder, expected = odd_files
    for name, (v, n) in expected.items():
        if v == "usable":
            assert abs(len(read_audio(folder / name).y) - n) <= 1152, name  # one mp3 frame


def test_reasons_name_file_and_remedy(odd_files):
    folder, _ = odd_files
    with pytest.raises(UnusableAudio, match="empty.mp3: unusable: the file is empty .* download it again"):
        read_audio(folder / "empty.mp3")
    with pytest.raises(UnusableAudio, match="folder.mp3: unusable: this is a folder"):
        read_audio(folder / "folder.mp3")


def test_phone_recording_is_decoded(tmp_path):
    av = pytest.importorskip("av")
    from conftest import tone

    y, path = tone(2.0, 44100), tmp_path / "phone.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        for start in range(0, len(y) - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(y[start : start + 1024].T), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 44100, start
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    audio = read_audio(path)
    assert audio.sr == 44100 and abs(audio.duration_s - 2) < 0.1
    spectrum = np.abs(np.fft.rfft(audio.y[:, 0]))
    assert abs(spectrum.argmax() * audio.sr / len(audio.y) - 2000) < 2


def test_corrupt_files_get_their_expected_verdicts(shared_data):
    for row in csv.DictReader(open(shared_data / "corrupt" / "EXPECTED.csv", encoding="utf-8")):
        assert verdict(shared_data / "corrupt" / row["file"]) in row["verdict"].split("|"), row["file"]


def test_a_constant_offset_is_silence(tmp_path):
    import soundfile as sf

    sf.write(tmp_path / "offset.wav", np.full(4410, 0.3), 22050)
    assert verdict(tmp_path / "offset.wav") == "silent"


def test_channels_are_averaged():
    for n in (1, 2, 3, 8):
        y = np.arange(4 * n, dtype=np.float32).reshape(4, n)
        np.testing.assert_allclose(to_mono(y), [n * k + (n - 1) / 2 for k in range(4)])


def test_loudness_is_that_of_the_loudest_tenth():
    y = np.full(2000, 0.01, np.float32)
    y[600:800] = np.tile([0.5, -0.5], 100)  # two of twenty frames of 50 ms
    assert loudness(y, 2000) == pytest.approx(0.5) and loudness(2 * y, 2000) == pytest.approx(1)
    assert loudness(np.zeros(2000, np.float32), 2000) == 0


def test_a_table_is_sorted_and_its_ids_are_single():
    rows = pd.DataFrame({"recording_id": ["c", "a", "b"], "label": ["x", "y", "z"], "path": "p"})
    table = validate(rows)
    assert table.recording_id.tolist() == ["a", "b", "c"] and table.label.tolist() == ["y", "z", "x"]
    with pytest.warns(Note, match="1 row set aside, because an earlier row has the same recording: a"):
        pd.testing.assert_frame_equal(validate(pd.concat([rows, rows[1:2]])), table)
