"""Files as recorders, phones and torn downloads leave them: what is there is read, what is missing is said."""

import os
import re
import struct
import warnings

import numpy as np
import pytest
import soundfile as sf
from conftest import tone

from avianspec.data.checkup import check_file, find_audio
from avianspec.files import file_sha256, read_text_table
from avianspec.sound.audio import AudioStream, UnusableAudio, header_duration_s, read_audio
from avianspec.sound.containers import read_claim
from avianspec.sound.decoders import decode_sndfile
from avianspec.sound.features import extract
from avianspec.sound.frames import walk_amr, walk_frames, walk_ogg

SR, SECONDS = 24000, 8
N = SR * SECONDS


def song(seconds=SECONDS, sr=SR):
    "A gliding tone over a murmur: nothing that a coder could leave out."
    t = np.arange(round(seconds * sr)) / sr
    murmur = 0.02 * np.random.default_rng(0).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * (1500 + 500 * np.sin(t)) * t) + murmur).astype(np.float32)


def heard(path):
    "Verdict, seconds and note of a file; seconds are 0 where nothing can be used."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            stream = AudioStream(path)
            n = sum(len(y) for y in stream.mono())
        except UnusableAudio as e:
            return e.verdict, 0.0, e.reason
    assert n == stream.n_samples
    return stream.verdict, stream.duration_s, stream.note


# ---- the table of real ones ------------------------------------------------------------------------------------------

ODD = {  # seconds, and words of the note
    "header_says_44_bytes_FL003.wav": (4.0, "speaks of 44 bytes"),
    "header_says_0s.wav": (4.0, "speaks of 0 bytes"),
    "truncated_at_40_percent.wav": (6.4, "40 %"),
    "float_quiet_1e-5.wav": (2.256, "very quiet"),
    "antiphase.wav": (2.256, "heard alone"),
    "rate1.wav": (0, "1 Hz"),
    "chained.ogg": (31.584, "2 streams"),
    "flac.oga": (2.256, ""),
    "g722.wav": (2.256, ""),
    "audiomoth_clock_00-00-2000.WAV": (0.045, ""),
    "concat_two_xing.mp3": (24.15, "3 recordings"),
    "t6_32768.wav": (1.5, "full scale"),
    "half_zero.wav": (6.0, "50 %"),
    "half_e.ogg": (3.046, "breaks off"),
    "20190430_210244.wav": (4.0, ""),
    "id3_then_64k_zeros.mp3": (8.05, "65,536 bytes"),
    "truncated.mp3": (13.0, "%"),
    "hole.mp3": (36.05, "%"),
}


@pytest.mark.parametrize("folder", ["odd", "corrupt"])
def test_real_files_get_the_answers_of_their_tables(shared_data, folder):
    expected = read_text_table(shared_data / folder / "EXPECTED.csv")
    answers = expected["right answer"] if folder == "odd" else expected.verdict
    sounds = [(f, a) for f, a in zip(expected.file, answers, strict=True) if not f.endswith((".csv", ".txt"))]
    assert len(sounds) > 8
    for name, answer in sounds:
        verdict, seconds, note = heard(shared_data / folder / name)
        row = check_file(shared_data / folder / name)
        right = set(re.findall(r"\b(usable|damaged|unusable|silent)\b", re.sub(r"never \w+", "", answer))) or {"usable"}
        assert verdict in right and row["verdict"] == verdict, (name, verdict, note)
        wanted_s, words = ODD.get(name, (seconds, ""))
        assert abs(seconds - wanted_s) < 0.06 and words in note and note in row["reason"], (name, seconds, note)
        assert "clipped" not in note, name
        length_s = header_duration_s(shared_data / folder / name)
        assert np.isnan(length_s) or length_s < 40, name


# ---- every format, whole, cut and with a hole ------------------------------------------------------------------------


def encode(path, codec, container, options=None, sr=SR, bit_rate=0):
    "Write the song with FFmpeg."
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=container, options=options or {}) as out:
        stream = out.add_stream(codec, rate=sr, layout="mono")
        if bit_rate:
            stream.bit_rate = bit_rate
        form = stream.codec_context.codec.audio_formats[0].name
        resampler, fifo = av.AudioResampler(format=form, layout="mono", rate=sr), av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(song(sr=sr)[None]), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sr, 0
        for piece in resampler.resample(frame):
            fifo.write(piece)
        while (piece := fifo.read(stream.codec_context.frame_size or 1024, partial=False)) is not None:
            out.mux(stream.encode(piece))
        if (piece := fifo.read(0, partial=True)) is not None:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))


SNDFILE = {  # suffix: format and subtype
    "wav": ("WAV", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_24"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
FFMPEG = {  # suffix: codec, container, options, rate
    "m4a": ("aac", "mp4", {"movflags": "faststart"}, SR),
    "3gp": ("aac", "3gp", {"movflags": "faststart"}, SR),
    "mov": ("pcm_s16le", "mov", {"movflags": "faststart"}, SR),
    "mp4": ("alac", "mp4", {"movflags": "faststart"}, SR),
    "aac": ("aac", "adts", None, SR),
    "webm": ("libopus", "webm", None, SR),
    "mka": ("libopus", "matroska", None, SR),
    "oga": ("flac", "ogg", None, SR),
    "mp2": ("mp2", "mp2", None, SR),
    "wv": ("wavpack", "wv", None, SR),
    "tta": ("tta", "tta", None, SR),
    "aifc": ("pcm_s16be", "aiff", None, SR),
    "wma": ("wmav2", "asf", None, SR),
}
PLAIN = ("wav", "rf64", "w64", "aiff", "au", "caf", "mov", "aifc")  # zeros in the middle are samples there
COUNTED = ("mp2",)  # no header says how long it should be


@pytest.fixture(scope="module")
def formats(tmp_path_factory):
    "The song in every format: suffix to path."
    folder, made = tmp_path_factory.mktemp("formats"), {}
    for suffix, (container, subtype) in SNDFILE.items():
        made[suffix] = folder / f"song.{suffix}"
        sf.write(made[suffix], song(), SR, format=container, subtype=subtype)
    for suffix, (codec, container, options, sr) in FFMPEG.items():
        made[suffix] = folder / f"song.{suffix}"
        encode(made[suffix], codec, container, options, sr, 64000 if codec in ("wmav2", "aac", "libopus") else 0)
    return made


@pytest.mark.parametrize("suffix", [*SNDFILE, *FFMPEG])
def test_a_whole_file_is_usable_without_a_word_under_any_name(formats, suffix, tmp_path):
    verdict, seconds, note = heard(formats[suffix])
    assert (verdict, note) == ("usable", "") and abs(seconds - SECONDS) < 0.15
    assert abs(header_duration_s(formats[suffix]) - SECONDS) < 0.2
    (tmp_path / "song.flac").write_bytes(formats[suffix].read_bytes())
    verdict, again, note = heard(tmp_path / "song.flac")
    assert verdict == "usable" and again == seconds and (suffix == "flac") == (note == "")


@pytest.mark.parametrize("suffix", [*SNDFILE, *FFMPEG])
def test_a_file_cut_to_two_fifths_is_damaged_and_says_what_is_there(formats, suffix, tmp_path):
    data, path = formats[suffix].read_bytes(), tmp_path / f"cut.{suffix}"
    path.write_bytes(data[: 2 * len(data) // 5])
    verdict, seconds, note = heard(path)
    assert 0.25 <= seconds / SECONDS < 0.45
    if suffix in COUNTED:
        assert verdict == "usable" and "lacks" in note
    else:
        assert verdict == "damaged"
        share = 100 * seconds / SECONDS
        said = [f"({s:.0f} %)" in note for s in np.arange(share - 1.5, share + 1.6, 0.5)]
        assert any(said) or "breaks off in the middle of a" in note, note
        assert f"{seconds:.1f} s" in note


@pytest.mark.parametrize("suffix", [*SNDFILE, *FFMPEG])
def test_a_hole_in_the_middle_is_found(formats, suffix, tmp_path):
    data, path = formats[suffix].read_bytes(), tmp_path / f"hole.{suffix}"
    half, hole = len(data) // 2, len(data) // 5
    path.write_bytes(data[:half] + bytes(hole) + data[half + hole :])
    verdict, seconds, note = heard(path)
    if suffix in PLAIN:
        assert verdict == "usable" and seconds == SECONDS and "1.6 s of it (20 %) are digital silence" in note
    else:
        assert verdict == "damaged" and "can be decoded" in note and seconds > 0.3 * SECONDS, (seconds, note)
    path.write_bytes(data[:half] + data[half + hole :])
    verdict, seconds, note = heard(path)
    assert seconds > 0.3 * SECONDS and (verdict == "damaged" or suffix in ("aac", "mp2") and "stray bytes" in note), (
        note
    )


def test_frames_that_are_missing_between_their_neighbours_times_are_a_loss(tmp_path):
    av = pytest.importorskip("av")
    encode(tmp_path / "whole.mka", "aac", "matroska", bit_rate=64000)
    live = dict(format="matroska", options={"live": "1"})  # its header states no length
    with av.open(str(tmp_path / "whole.mka")) as whole, av.open(str(tmp_path / "gap.mka"), "w", **live) as gap:
        stream = gap.add_stream_from_template(whole.streams.audio[0])
        for packet in whole.demux(audio=0):
            if packet.dts is not None and not 3 <= packet.pts * packet.time_base < 5:
                packet.stream = stream
                gap.mux(packet)
    verdict, seconds, note = heard(tmp_path / "gap.mka")
    assert verdict == "damaged" and abs(seconds - (SECONDS - 2)) < 0.1 and "6.0 s" in note, note


def test_an_index_that_was_cut_off_is_named_with_the_share_that_is_there(tmp_path):
    encode(tmp_path / "phone.m4a", "aac", "mp4", bit_rate=64000)
    data = (tmp_path / "phone.m4a").read_bytes()
    (tmp_path / "cut.m4a").write_bytes(data[: 2 * len(data) // 5])
    verdict, _, note = heard(tmp_path / "cut.m4a")
    assert verdict == "unusable" and "moov" in note and ("40 %" in note or "41 %" in note)


# ---- headers that say too little, nothing, or what nobody can know ---------------------------------------------------


def changed(path, *patches, tail=b""):
    "The bytes of a file with some of them replaced."
    data = bytearray(path.read_bytes())
    for at, value in patches:
        data[at : at + len(value)] = value
    return bytes(data) + tail


def place(data, name, behind):
    return data.index(name) + behind


FIELDS = {  # suffix: name of the chunk, where its size stands behind the name, form, what the size counts beside
    "wav": (b"data", 4, "<I", 0),
    "rf64": (b"ds64", 16, "<Q", 0),
    "w64": (b"data\xf3\xac", 16, "<Q", 24),
    "aiff": (b"SSND", 4, ">I", 8),
    "au": (b".snd", 8, ">I", 0),
    "caf": (b"data", 4, ">q", 4),
}
UNKNOWN = {"rf64": 2**64 - 1, "w64": 2**64 - 1, "caf": -1}


@pytest.mark.parametrize("suffix", FIELDS)
@pytest.mark.parametrize("said", [0, 44, 9600, N])
def test_sound_behind_a_header_that_says_too_little_is_read(formats, suffix, said, tmp_path):
    name, behind, form, beside = FIELDS[suffix]
    whole = read_audio(formats[suffix])
    at, path = place(formats[suffix].read_bytes(), name, behind), tmp_path / f"small.{suffix}"
    patches = [(at, struct.pack(form, said + beside))]
    if suffix == "aiff":
        patches.append((place(formats[suffix].read_bytes(), b"COMM", 10), struct.pack(">I", said // 2)))
    path.write_bytes(changed(formats[suffix], *patches))
    made = read_audio(path)
    assert made.verdict == "usable" and f"speaks of {said:,} bytes" in made.note
    np.testing.assert_array_equal(made.y, whole.y)
    assert header_duration_s(path) == SECONDS


@pytest.mark.parametrize("suffix", FIELDS)
def test_a_length_that_a_pipe_could_not_know_is_no_fault(formats, suffix, tmp_path):
    name, behind, form, _ = FIELDS[suffix]
    at, path = place(formats[suffix].read_bytes(), name, behind), tmp_path / f"piped.{suffix}"
    sizes = [UNKNOWN[suffix]] if suffix in UNKNOWN else [0xFFFFFFFF]
    sizes += [0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF - 36] if suffix == "wav" else []
    for size in sizes:
        path.write_bytes(changed(formats[suffix], (at, struct.pack(form, size))))
        made = read_audio(path)
        assert (made.verdict, made.note, made.duration_s) == ("usable", "", SECONDS), hex(size)
        np.testing.assert_array_equal(made.y, read_audio(formats[suffix]).y)
        assert header_duration_s(path) == SECONDS


def test_chunks_behind_the_sound_are_no_sound(formats, tmp_path):
    notes = b"LIST" + struct.pack("<I", 26) + b"INFOICMT" + struct.pack("<I", 14) + b"hello world \0\0"
    guano = b"guan" + struct.pack("<I", 20) + b"GUANO|Version: 1.0\n\n"
    path = tmp_path / "a.wav"
    for tail, said, note in (
        (notes + 40 * guano, None, ""),
        (bytes(5000), None, ""),
        (b"slip" * 9, None, ""),
        (notes + guano, 0, "speaks of 0"),
    ):
        patches = [] if said is None else [(40, struct.pack("<I", said))]
        path.write_bytes(changed(formats["wav"], *patches, tail=tail))
        verdict, seconds, found = heard(path)
        assert (verdict, seconds) == ("usable", SECONDS) and note in found and bool(note) == bool(found)


def test_the_last_frame_of_flac_corrects_its_header(formats, tmp_path):
    packed = struct.unpack(">Q", formats["flac"].read_bytes()[18:26])[0] >> 36 << 36
    for said, note in ((0, ""), (5000, "speaks of 5,000 samples")):
        (tmp_path / "a.flac").write_bytes(changed(formats["flac"], (18, struct.pack(">Q", packed | said))))
        made = read_audio(tmp_path / "a.flac")
        np.testing.assert_array_equal(made.y, read_audio(formats["flac"]).y)
        assert made.verdict == "usable" and note in made.note and header_duration_s(tmp_path / "a.flac") == SECONDS
    (tmp_path / "a.flac").write_bytes(changed(formats["flac"], (18, struct.pack(">Q", packed | 10**9))))
    assert heard(tmp_path / "a.flac")[0] == "damaged" and header_duration_s(tmp_path / "a.flac") == SECONDS


# ---- several in one file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3", "oga", "aac", "m4a"])
def test_recordings_joined_into_one_are_read_whole(formats, suffix, tmp_path):
    (tmp_path / f"joined.{suffix}").write_bytes(3 * formats[suffix].read_bytes())
    verdict, seconds, note = heard(tmp_path / f"joined.{suffix}")
    assert verdict == "usable" and abs(seconds - 3 * SECONDS) < 0.5
    assert "all are read" in note or suffix == "aac"
    assert abs(header_duration_s(tmp_path / f"joined.{suffix}") - 3 * SECONDS) < 0.5


def test_joined_parts_of_other_rates_are_named(formats, tmp_path):
    sf.write(tmp_path / "other.wav", song(4, 44100), 44100)
    sf.write(tmp_path / "stereo.wav", np.stack([song(4)] * 2, axis=1), SR)
    one = formats["wav"].read_bytes()
    (tmp_path / "a.wav").write_bytes(one + (tmp_path / "other.wav").read_bytes())
    verdict, seconds, note = heard(tmp_path / "a.wav")
    assert (verdict, seconds) == ("damaged", SECONDS) and "24,000 and 44,100 Hz" in note
    (tmp_path / "a.wav").write_bytes(one + (tmp_path / "stereo.wav").read_bytes())
    assert heard(tmp_path / "a.wav")[:2] == ("usable", SECONDS + 4)


def walk_of(folder, data):
    (folder / "walk.mp3").write_bytes(data)
    return walk_frames(folder / "walk.mp3")


def test_mp3s_of_variable_rate_without_a_header_are_read_whole(tmp_path):
    quiet_first = np.concatenate([np.zeros(4 * SR, np.float32), song(), song()])
    sf.write(tmp_path / "vbr.mp3", quiet_first, SR, bitrate_mode="VARIABLE", compression_level=0.3)
    data = (tmp_path / "vbr.mp3").read_bytes()
    found = walk_frames(tmp_path / "vbr.mp3")
    first = next(k for k in range(4, 400) if data[k : k + 2] == data[:2] and walk_of(tmp_path, data[k:]).stray == 0)
    (tmp_path / "bare.mp3").write_bytes(data[first:])
    for name in ("vbr.mp3", "bare.mp3"):
        verdict, seconds, note = heard(tmp_path / name)
        assert verdict == "usable" and abs(seconds - 20) < 0.1 and "4.0 s of it (20 %)" in note, name
    assert found.claims == (found.n_samples,) and walk_frames(tmp_path / "bare.mp3").claims == ()


# ---- rates, values, silence ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, 1, 7, 100, 999, 2_000_001, 4_000_000_000])
def test_rates_that_cannot_be_are_named_and_crash_nothing(formats, rate, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(changed(formats["wav"], (24, struct.pack("<I", rate))))
    verdict, _, note = heard(path)
    assert verdict == "unusable" and "Hz; a rate lies between" in note and np.isnan(header_duration_s(path))
    with pytest.raises(UnusableAudio, match="a rate lies between"):
        extract(path)
    assert check_file(path)["verdict"] == "unusable"


@pytest.mark.parametrize("channels", [0, 129, 65535])
def test_channels_that_cannot_be_are_named(formats, channels, tmp_path):
    (tmp_path / "a.wav").write_bytes(changed(formats["wav"], (22, struct.pack("<H", channels))))
    verdict, _, note = heard(tmp_path / "a.wav")
    assert verdict == "unusable" and f"{channels:,} channels" in note


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("bits", [15, 23, 31])
def test_integers_in_floating_point_are_brought_to_full_scale(subtype, bits, tmp_path):
    sf.write(tmp_path / "a.wav", song(1) * 2.0**bits, SR, subtype=subtype)
    made, row = read_audio(tmp_path / "a.wav"), check_file(tmp_path / "a.wav")
    np.testing.assert_allclose(made.y[:, 0], song(1), atol=1e-6)
    assert f"{2**bits:,}; brought to full scale" in made.note and row["clipped_share"] == 0 and row["peak"] < 0.5


@pytest.mark.parametrize("value, words", [(np.nan, "not numbers"), (np.inf, "not numbers"), (1e30, "1e+30")])
@pytest.mark.parametrize("at", [10, SECONDS * SR - 10])
def test_samples_that_are_no_sound_are_named_without_a_warning(value, words, at, tmp_path):
    y = song()
    y[at] = value
    sf.write(tmp_path / "a.wav", y, SR, subtype="FLOAT")
    verdict, _, note = heard(tmp_path / "a.wav")
    assert verdict == "unusable" and words in note


def test_floating_point_above_full_scale_is_kept_as_it_is(tmp_path):
    sf.write(tmp_path / "a.wav", 5 * song(1), SR, subtype="FLOAT")
    made = read_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(made.y[:, 0], 5 * song(1))
    assert (made.verdict, made.note) == ("usable", "")


@pytest.mark.parametrize(
    "subtype, peak, verdict",
    [
        ("PCM_16", 1e-5, "silent"),
        ("PCM_24", 1e-5, "usable"),
        ("PCM_24", 1e-7, "silent"),
        ("FLOAT", 1e-5, "usable"),
        ("FLOAT", 1e-12, "silent"),
        ("PCM_U8", 0.02, "usable"),
    ],
)
def test_silence_is_judged_by_the_step_of_the_format(subtype, peak, verdict, tmp_path):
    sf.write(tmp_path / "a.wav", tone(1.0, SR) * peak / 0.3, SR, subtype=subtype)
    assert heard(tmp_path / "a.wav")[0] == verdict


@pytest.mark.parametrize("form", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("lead_s", [0, 4])
def test_opposed_channels_are_heard_one_by_one(form, lead_s, tmp_path):
    y = np.concatenate([np.zeros(lead_s * SR, np.float32), song()])
    path = tmp_path / f"a.{form}"
    sf.write(path, np.stack([y, -y], axis=1), SR)
    verdict, _, note = heard(path)
    assert verdict == "usable" and "cancel each other: channel" in note and check_file(path)["channels"] == 2
    made = read_audio(path)
    assert made.y.shape[1] == 1 and np.corrcoef(made.y[:, 0], y)[0, 1] > 0.98
    sf.write(path, np.stack([y, 0.5 * np.roll(y, 50)], axis=1), SR)
    assert "cancel" not in heard(path)[2] and read_audio(path).y.shape[1] == 2


@pytest.mark.parametrize("channel", [0, 1])
def test_clipping_is_told_of_the_channel_that_clips(channel, tmp_path):
    y = np.stack([tone(1.0, SR)[:, 0]] * 2, axis=1)
    y[:, channel] = np.clip(10 * y[:, channel], -1, 1)
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT"):
        sf.write(tmp_path / "a.wav", y, SR, subtype=subtype)
        note = heard(tmp_path / "a.wav")[2]
        assert f"of channel {channel + 1} stand at full scale" in note and note.count("clipped") == 1, subtype


def test_a_first_track_that_is_silent_hides_no_sound(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w", format="mp4") as out:
        film = out.add_stream("mpeg4", rate=10)
        film.width = film.height = 64
        tracks = [out.add_stream("aac", rate=SR, layout="mono") for _ in range(2)]
        for k in range(20):
            out.mux(film.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 12 * k, np.uint8), format="rgb24")))
        out.mux(film.encode(None))
        for stream, y in zip(tracks, (0 * song(2), song(2)), strict=True):
            for start in range(0, 46 * 1024, 1024):
                frame = av.AudioFrame.from_ndarray(y[None, start : start + 1024], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = SR, start
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    verdict, seconds, note = heard(tmp_path / "a.mp4")
    assert (verdict, note) == ("usable", "") and abs(seconds - 2) < 0.1


# ---- what is no file, and what lies beside ---------------------------------------------------------------------------


def test_what_would_never_end_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero"):
        assert heard(path)[2] == "this is a pipe, a socket or a device, not a file"
        assert check_file(path)["verdict"] == "unusable" and np.isnan(header_duration_s(path))
        with pytest.raises(FileNotFoundError, match="is not a file"):
            file_sha256(path)
    sf.write(tmp_path / "a.wav", song(1), SR)
    assert find_audio([tmp_path]) == [tmp_path / "a.wav"]


@pytest.mark.parametrize("suffix", ["wav", "mp3", "ogg"])
def test_companions_of_macos_change_nothing(formats, suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(formats[suffix].read_bytes())
    alone = extract(path)
    double = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes.fromhex("0002000000090000003200000eb0")
    (tmp_path / f"._a.{suffix}").write_bytes(double + bytes.fromhex("0000000200000ee20000011e") + bytes(4000))
    beside = extract(path)
    assert find_audio([tmp_path]) == [path]
    np.testing.assert_array_equal(alone["spectrogram"], beside["spectrogram"])


@pytest.mark.parametrize("seed", range(40))
def test_nonsense_of_every_kind_gets_a_verdict(formats, seed, tmp_path):
    "Bytes thrown over files of every format: a verdict, never an error, never an absurd length."
    rng = np.random.default_rng(seed)
    for suffix, path in formats.items():
        data = bytearray(path.read_bytes())
        head = bool(rng.integers(2))
        for at in rng.integers(0, 64 if head else len(data), 6):
            data[at] = rng.integers(256)
        torn = tmp_path / f"torn.{rng.choice(list(formats))}"
        torn.write_bytes(bytes(data[: rng.integers(1, len(data))] if rng.integers(2) else data))
        verdict, seconds, note = heard(torn)
        assert verdict in ("usable", "damaged", "unusable", "silent"), suffix
        assert verdict in ("usable", "silent") or note
        assert seconds < 24 * SECONDS, (suffix, seconds)
        torn.unlink()


def test_what_walks_and_claims_say_of_whole_files(formats):
    for suffix in ("wav", "rf64", "aiff", "au", "caf"):
        claim = read_claim(formats[suffix])
        assert claim.promised == claim.present == 2 * N and (claim.rate_hz, claim.channels) == (SR, 1), suffix
    assert read_claim(formats["w64"]).promised == 3 * N and read_claim(formats["flac"]).promised == N
    (link,) = walk_ogg(formats["ogg"])
    assert (link.codec, link.sr, link.n_samples, link.lost_s, link.ended) == ("vorbis", SR, N, 0, True)
    assert walk_frames(formats["aac"], adts=True).stray == 0


def test_amr_is_counted_in_frames(tmp_path):
    frame = b"\x3c" + bytes(range(1, 32))  # 12.2 kbit/s: 32 bytes for 20 ms
    (tmp_path / "a.amr").write_bytes(b"#!AMR\n" + 100 * frame)
    assert walk_amr(tmp_path / "a.amr").n_samples == 16000
    assert heard(tmp_path / "a.amr")[:2] == ("usable", 2.0)
    (tmp_path / "a.amr").write_bytes(b"#!AMR\n" + 40 * frame + frame[:9])
    assert heard(tmp_path / "a.amr")[0] == "damaged" and "middle of a frame" in heard(tmp_path / "a.amr")[2]
    (tmp_path / "a.amr").write_bytes(b"#!AMR\n" + 50 * frame + bytes(40 * 32) + 50 * frame)
    assert heard(tmp_path / "a.amr")[0] == "damaged"


@pytest.mark.parametrize(
    "format, subtype", [(f, "PCM_16") for f in ("WAV", "FLAC", "AIFF", "AU")] + [("WAV", "PCM_24")]
)
def test_samples_are_those_of_libsndfile_to_the_last_digit(tmp_path, format, subtype):
    path, whole = tmp_path / "sound", np.random.default_rng(0).integers(-(2**15), 2**15, (200_001, 2)).astype(np.int16)
    whole[:2] = [[-(2**15), 2**15 - 1]] * 2
    sf.write(path, whole, 22050, format=format, subtype=subtype)
    made = np.concatenate([block.copy() for block in decode_sndfile(path).blocks])
    np.testing.assert_array_equal(made, sf.read(path, dtype="float32")[0])
