"""The check-up: a verdict for every file, copies found, names compared; on files made here and on real ones."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone

from avianspec.cli import main
from avianspec.data.checkup import check, check_file, check_files, find_audio, find_twins
from avianspec.files import read_text_table
from avianspec.sound.frames import mp3_flaws, walk_frames


def write_in_blocks(path, y, sr):
    with sf.SoundFile(path, "w", sr, 1) as f:
        for k in range(0, len(y), 50_000):
            f.write(y[k : k + 50_000])


def test_odd_files_get_the_verdict_they_must(odd_files):
    folder, expected = odd_files
    files = check_files([folder / name for name in expected]).set_index("path")
    for name, (verdict, _) in expected.items():
        assert files.verdict[str(folder / name)] == verdict, name
    assert (files.reason[files.verdict != "usable"] != "").all()


def test_what_is_odd_about_a_usable_file_is_told(tmp_path):
    loud = np.clip(20 * tone(2), -1, 1)
    sf.write(tmp_path / "loud.wav", np.hstack([loud, np.zeros_like(loud)]), 22050)
    row = check_file(tmp_path / "loud.wav")
    share = (np.abs(sf.read(tmp_path / "loud.wav")[0][:, 0]) >= 32766 / 32768).mean()
    assert (
        row["verdict"] == "usable"
        and row["clipped_share"] == pytest.approx(share, abs=1e-6)
        and f"clipped: {100 * share:.1f} % of the samples of channel 1" in row["reason"]
        and "channel 2 is empty" in row["reason"]
        and row["peak"] >= 0.999
    )
    sf.write(tmp_path / "slow.wav", tone(1, sr=12000), 12000)
    assert (
        check_file(tmp_path / "slow.wav")["reason"] == "sampled at 12,000 Hz: nothing above 6,000 Hz"
        and check_file(tmp_path / "slow.wav", want_sr=8000)["reason"] == ""
    )
    sf.write(tmp_path / "a.flac", tone(), 22050)
    for name in ("a.wav", "a.ogg", "a.mp3"):
        shutil.copy(tmp_path / "a.flac", tmp_path / name)
        assert f"FLAC audio under the name {name[1:]}" in check_file(tmp_path / name)["reason"]


def test_samples_at_both_ends_of_the_scale_are_clipped(tmp_path):
    y = tone(1)
    y[100:150], y[200:250] = 1, -1
    sf.write(tmp_path / "a.wav", y, 22050)
    assert check_file(tmp_path / "a.wav")["clipped_share"] == pytest.approx(100 / 22050, abs=1e-6)


def test_damaged_silent_and_unusable_files_are_set_aside(odd_files, tmp_path, capfd):
    folder, expected = odd_files
    expected = {name: verdict for name, (verdict, _) in expected.items() if (folder / name).is_file()}
    assert main(["check", str(folder), "--output", str(tmp_path / "out"), "--quiet"]) == 1
    kept = read_text_table(tmp_path / "out" / "quarantine.csv").set_index("path")
    bad = {str(folder / name): verdict for name, verdict in expected.items() if verdict != "usable"}
    assert kept.verdict.to_dict() == bad and set(bad.values()) == {"damaged", "silent", "unusable"}
    assert (kept.reason != "").all() and "truncated.mp3" in capfd.readouterr().out
    good = next(name for name, verdict in expected.items() if verdict == "usable")
    assert main(["check", str(folder / good), "--output", str(tmp_path / "good"), "--quiet"]) == 0


def test_bytes_too_many_and_too_few_in_an_mp3(tmp_path):
    sf.write(tmp_path / "a.mp3", tone(3), 22050)
    data = (tmp_path / "a.mp3").read_bytes()
    id3v2, id3v1, ape = (
        b"ID3\x04\0\0\0\0\1\0" + bytes(128),
        b"TAG" + bytes(125),
        b"APETAGEX" + bytes(24) + b"x" * 40 + b"APETAGEX" + bytes(24),
    )
    half = data.find(b"\xff", len(data) // 2)
    while mp3_flaws_of(tmp_path, data[half:]) != (0, 0):
        half = data.find(b"\xff", half + 1)
    for made, expected in (
        (id3v2 + data + ape + id3v1, (0, 0)),
        (id3v2 + data + id3v1 + ape, (0, 0)),
        (data + bytes(500), (0, 0)),
        (data[:half] + b"Q" + data[half:], (1, 0)),
        (data + b"junk!" * 3, (15, 0)),
        (data[:-10], (0, 10)),
        (b"", (0, 0)),
    ):
        assert mp3_flaws_of(tmp_path, made) == expected


@pytest.mark.parametrize("sr, channels", [(22050, 1), (16000, 2), (44100, 1)])
def test_frames_that_ask_for_more_bits_than_there_are_get_a_note(sr, channels, tmp_path, capfd):
    noise = np.random.default_rng(0).standard_normal((4 * sr, channels))
    sf.write(tmp_path / "a.mp3", 0.001 * noise if sr == 44100 else 0.1 * noise, sr, compression_level=0.9)
    whole = (tmp_path / "a.mp3").read_bytes()
    data, at = bytearray(whole), 0
    # part2_3_length, 12 bits, in ISO 11172-3, 2.4.1.7 (two of them), and 13818-3, 2.4.1.7
    parts = (32 + 18, 32 + 18 + 59) if sr == 44100 else (32 + 8 + channels,)
    for k in range(60):
        at = whole.index(whole[:2], at + 24) if k else 0
        if k in (30, 31, 50):
            for bit in (part + n for part in parts for n in range(12)):
                data[at + bit // 8] |= 128 >> bit % 8
    (tmp_path / "b.mp3").write_bytes(data)
    read_all = "import soundfile, sys; soundfile.read(sys.argv[1])"
    said = subprocess.run([sys.executable, "-c", read_all, tmp_path / "b.mp3"], capture_output=True, text=True).stderr
    assert said.count("part2_3_length (4095) too large") == walk_frames(tmp_path / "b.mp3").starved == 3
    row = check_file(tmp_path / "b.mp3")
    assert row["verdict"] == "usable" and "3 of its frames need more bits than there are" in row["reason"]
    assert "frames need" not in check_file(tmp_path / "a.mp3")["reason"] and capfd.readouterr() == ("", "")


def mp3_flaws_of(folder, data):
    (folder / "flaws.mp3").write_bytes(data)
    return mp3_flaws(folder / "flaws.mp3")


def test_an_empty_place_and_one_that_is_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no sound files"):
        find_audio([tmp_path])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_audio([tmp_path / "x"])


def test_the_answer_does_not_depend_on_the_threads(odd_files):
    folder, expected = odd_files
    one, four = (check_files(sorted(folder / n for n in expected), n_threads=n) for n in (1, 4))
    pd.testing.assert_frame_equal(one.drop(columns="fingerprint"), four.drop(columns="fingerprint"))
    assert all((a == b).all() for a, b in zip(one.fingerprint, four.fingerprint, strict=True))


def test_a_long_file_takes_little_memory(tmp_path):
    import tracemalloc

    with sf.SoundFile(tmp_path / "night.wav", "w", 22050, 1) as f:
        y = tone(60)
        for _ in range(20):
            f.write(y)  # 20 minutes, 106 MB as float32
    check_file(tmp_path / "night.wav", compare=False)
    tracemalloc.start()
    row = check_file(tmp_path / "night.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert row["duration_s"] == 1200 and peak < 30e6


def test_names_of_a_data_set_are_compared(tmp_path, capsys):
    for species in ("Gray Jay", "Canada Jay", "Wren"):
        (tmp_path / "birds" / species).mkdir(parents=True)
        sf.write(tmp_path / "birds" / species / "a.wav", tone(hz=500 + 300 * len(species)), 22050)
    assert main(["check", str(tmp_path / "birds"), "--output", str(tmp_path / "out"), "--quiet"]) == 0
    assert "name: one bird, several names: Canada Jay | Gray Jay (2 recordings)" in capsys.readouterr().out
    assert read_text_table(tmp_path / "out" / "names.csv").names.iloc[0] == "Canada Jay | Gray Jay"


def test_real_birds_are_usable_and_damaged_ones_get_their_verdict(shared_data, tmp_path, capfd):
    started, used = time.perf_counter(), time.process_time()
    done = check([shared_data / "birds"])
    took, used = time.perf_counter() - started, time.process_time() - used
    with capfd.disabled():
        minutes = done.files.duration_s.sum() / 60  # measured, not asserted: machines differ
        print(f"\n110 files, {minutes:.0f} minutes of sound: {took:.1f} s of time, {used:.1f} s of processor")
    assert (
        len(done.files) == 110
        and set(done.files.verdict) == {"usable"}
        and done.quarantine.empty
        and done.names.empty
        and done.twins.empty
    )
    notes = {Path(p).stem: r for p, r in zip(done.files.path, done.files.reason, strict=True) if "harmless" in r}
    assert set(notes) == {"XC390250", "XC418078"}  # the two that are known to carry a flaw
    listed = read_text_table(shared_data / "birds" / "recordings.csv").set_index("id")
    for row in done.files.itertuples():
        assert row.sha256 == listed.sha256[Path(row.path).stem.removeprefix("XC")]


def test_every_file_of_corrupt_gets_its_verdict_from_the_command(shared_data, tmp_path, capfd):
    assert (
        main(
            [
                "check",
                str(shared_data / "corrupt"),
                str(shared_data / "birds" / "audio" / "XC442319.mp3"),
                "--output",
                str(tmp_path / "out"),
                "--quiet",
            ]
        )
        == 1
    )
    files = read_text_table(tmp_path / "out" / "files.csv")
    verdicts = {Path(p).name: v for p, v in zip(files.path, files.verdict, strict=True)}
    expected = read_text_table(shared_data / "corrupt" / "EXPECTED.csv")
    for row in expected.itertuples():
        assert verdicts[row.file] in row.verdict.split("|"), row.file
    assert "OGG audio under the name .mp3" in files[files.path.str.endswith("really_ogg.mp3")].reason.item()
    quarantine = read_text_table(tmp_path / "out" / "quarantine.csv")
    assert (
        list(quarantine.columns) == ["recording_id", "path", "verdict", "reason"]
        and {Path(p).name for p in quarantine.path} == {n for n, v in verdicts.items() if v != "usable"}
        and (quarantine.reason != "").all()
    )
    copies = read_text_table(tmp_path / "out" / "twins.csv")
    pairs = {frozenset((Path(a).name, Path(b).name)) for a, b in zip(copies.path, copies.copy_of, strict=True)}
    assert {
        frozenset(("hole.mp3", "XC442319.mp3")),
        frozenset(("headless.mp3", "XC442319.mp3")),
    } <= pairs  # they were made of that bird
    said = capfd.readouterr()
    assert (
        "layer3" not in said.err
        and len([line for line in said.out.splitlines() if ": unusable: " in line]) == 4
        and "10 files" in said.out
    )


def test_saved_again_cut_and_turned_down_it_is_still_a_copy(shared_data, tmp_path):
    import soxr

    from avianspec.sound.audio import read_audio, to_mono

    birds = sorted((shared_data / "birds" / "audio").glob("*.mp3"), key=lambda p: p.stat().st_size)[8:60:6]
    for p in birds:
        audio = read_audio(p)
        y = 0.5 * soxr.resample(to_mono(audio.y)[int(1.37 * audio.sr) :], audio.sr, 22050)
        write_in_blocks(tmp_path / f"{p.stem}.ogg", y, 22050)
    twins = find_twins(check_files([*birds, *sorted(tmp_path.glob("*.ogg"))]))
    assert (
        all(Path(a).stem == Path(b).stem for a, b in zip(twins.path, twins.copy_of, strict=True))
        and len(twins) >= len(birds) - 1
    )  # none that is none; at most one missed
    assert (twins.kind == "same sound").all() and (twins.bit_errors < 0.32).all()
