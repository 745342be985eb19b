"""Days, hours and moments: as people write them, as recorders write them, and those that cannot be."""

import struct
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import tone
from hypothesis import given
from hypothesis import strategies as st

from avianspec.data.clocks import clock, day, days, fill_times, hour_of_day, name_parts, offset, recorded_at
from avianspec.data.exploration import plot_calendar
from avianspec.data.own_recordings import load_own
from avianspec.data.recordings import validate
from avianspec.scoring.leaks import metadata_features

pytestmark = pytest.mark.usefixtures("close_figures")


def chunk(name, body):
    "A RIFF chunk, filled up to an even length."
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def comment(text):
    "A list of the kind that AudioMoth writes, with its comment."
    return chunk(b"LIST", b"INFO" + chunk(b"ICMT", text.encode("latin-1")))


def guano(*lines):
    return chunk(b"guan", "\n".join(["GUANO|Version: 1.0", *lines, ""]).encode())


def recording(path, *chunks, before=(), riff=b"RIFF", data_size=None):
    "A short WAV file with chunks before and behind its sound."
    sound = b"\1\0" * 401  # an even number of bytes
    size = struct.pack("<I", len(sound) if data_size is None else data_size)
    body = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
    body += b"".join(before) + b"data" + size + sound + b"".join(chunks)
    path.write_bytes(riff + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    return path


def test_times_of_day_as_people_write_them():
    written = {"09:15": "09:15", "0640": "06:40", "4:30 pm": "16:30", "12:05 am": "00:05", "12:05 PM": "12:05"}
    written |= {"7.20h": "07:20", "?": "", "25:00": "", "morning": "", "24:00": "", "07:xx": "", "?:?": "", "-": ""}
    written |= {"07:30:00": "07:30", "7.30": "07:30", "5 a.m.": "05:00", "5PM": "17:00", "12345": "", "": ""}
    assert {text: clock(text) for text in written} == written
    hours = hour_of_day(pd.Series(list(written))).fillna(-1)
    by_hand = [int(c[:2]) + int(c[3:]) / 60 if c else -1 for c in written.values()]
    assert hours.tolist() == pytest.approx(by_hand)


@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from([":", ".", "h", ""]), st.booleans())
def test_an_hour_is_read_however_it_is_written(hour, minute, between, half):
    shown, tail = (hour % 12 or 12, " pm" if hour >= 12 else " am") if half else (hour, "")
    width = 2 if not between else 1
    assert clock(f"{shown:0{width}d}{between}{minute:02d}{tail}") == f"{hour:02d}:{minute:02d}"


@pytest.mark.parametrize(
    "text, date_format, expected",
    [
        ("2024-05-01", "", "2024-05-01"),
        ("2024/5/1", "", "2024-05-01"),
        ("2024.05.01", "", "2024-05-01"),
        ("20240501", "", "2024-05-01"),
        (" 2024-05-01T04:30:00Z ", "", "2024-05-01"),
        ("2024-05-01 04:30", "", "2024-05-01"),
        ("24.12.2023", "%d.%m.%Y", "2023-12-24"),
        ("24.12.2023", "", ""),
        ("2023-12-24", "%d.%m.%Y", ""),
        ("24.12.2023", "%d.%m.%Q", ""),  # no such format
        ("1905-05-01", "", "1905-05-01"),
        ("2000-01-01", "", "2000-01-01"),  # a person may have been out on that morning
        *[(text, "", "") for text in ("0000-00-00", "2019-05-00", "2019-02-30", "2019", "2019-05", "00-00-0000", "?")],
        *[(text, "", "") for text in ("1970-01-01", "1899-12-30", "1900-01-01", "2190-05-01", "12345-01-01", "")],
    ],
)
def test_a_day_is_one_that_a_calendar_has_and_a_bird_was_recorded_on(text, date_format, expected):
    assert day(text, date_format) == expected
    if not date_format:
        assert days(pd.Series([text, "2001-02-03"])).dt.strftime("%Y-%m-%d").fillna("").tolist() == [
            expected,
            "2001-02-03",
        ]


def test_impossible_days_are_unknown_to_pictures_and_baselines():
    dates = ["0000-00-00", "2019-05-31", "2190-01-01", "2019-06-01", "2020/7/1", ""]
    times = ["24:00", "4:30 pm", "?", "07:30", "dawn", "7.30"]
    n = len(dates)
    table = pd.DataFrame(
        {"recording_id": list("abcdef"), "label": "Wren", "path": "x.wav", "date": dates, "time": times}
    )
    table = validate(table).assign(date=dates, time=times)
    axes = plot_calendar(table)
    assert [sum(bar.get_height() for bar in ax.patches) for ax in axes] == [3, 3]
    known = metadata_features(table, np.ones(n, bool))
    assert known["hour"].fillna(-1).tolist() == [-1, 16.5, -1, 7.5, -1, 7.5]
    assert known["year"].fillna(-1).tolist() == [-1, 2019, -1, 2019, 2020, -1]


@given(st.integers(-12 * 4, 14 * 4), st.sampled_from([":", ""]))
def test_an_offset_is_read_however_it_is_written(quarters, between):
    hours, minutes = divmod(abs(quarters) * 15, 60)
    sign = "-" if quarters < 0 else "+"
    expected = pd.Timedelta(minutes=15 * quarters)
    assert offset(f"{sign}{hours:02d}{between}{minutes:02d}").utcoffset(None) == expected
    if not minutes:
        assert offset(f"{sign}{hours}").utcoffset(None) == expected


@pytest.mark.parametrize("text", ["", "CET", "UTC+1", "+15:00", "-1300", "+01:60", "+01:07", "0100"])
def test_what_is_no_offset_on_earth_leaves_the_zone_unknown(text):
    assert offset(text) is None


@pytest.mark.parametrize(
    "name, zone, moment",
    [
        ("5E90A4D4.WAV", "", "2020-04-10T16:54:44+00:00"),  # hexadecimal: always UTC
        ("5E90A4D4.WAV", "UTC", "2020-04-10T16:54:44+00:00"),
        ("5e90a4d4.wav", "Asia/Kolkata", "2020-04-10T22:24:44+05:30"),
        ("20240101_000000.WAV", "", "2024-01-01T00:00:00"),
        ("20240101_000000.WAV", "+02:00", "2024-01-01T00:00:00+02:00"),
        ("24F31901603710A0_20230531_043000T.WAV", "UTC", "2023-05-31T04:30:00+00:00"),
        ("SMA01234_20240601_140505.wav", "America/Los_Angeles", "2024-06-01T14:05:05-07:00"),
        ("ARIZONA-1_0+1_20161023$195550.wav", "America/Phoenix", "2016-10-23T19:55:50-07:00"),
        ("S4A_20240331_023000.wav", "Europe/Berlin", "2024-03-31T03:00:00+02:00"),  # an hour that summer time left out
        ("SM_20190430_210244_000.wav", "", "2019-04-30T21:02:44"),  # cut by Kaleidoscope
        ("MYOLUC_20190430_210244.wav", "", "2019-04-30T21:02:44"),
        ("REC20240601140505.mp3", "", "2024-06-01T14:05:05"),
        ("20240601T140505Z.flac", "", "2024-06-01T14:05:05+00:00"),
        ("20240601T140505Z.flac", "Europe/Berlin", "2024-06-01T16:05:05+02:00"),
        ("20200313T050000+1000_REC [-27.39,152.88].flac", "Europe/Berlin", "2020-03-13T05:00:00+10:00"),
        ("20200313T050000+0530_REC.flac", "", "2020-03-13T05:00:00+05:30"),
        ("20240601_140505-0100.wav", "", "2024-06-01T14:05:05"),  # a counter as likely as an offset
        ("2024-06-01T14:05:05.250-03:00.wav", "", "2024-06-01T14:05:05-03:00"),
        ("hide 2024-06-01 14-05-05.wav", "", "2024-06-01T14:05:05"),
        ("2024-06-01_14.05.05", "", "2024-06-01T14:05:05"),
        *[(name, "UTC", "") for name in ("20240601.wav", "XC17804.mp3", "song.wav", "12345678_123456.wav")],
        *[(name, "", "") for name in ("deadbeef.wav", "20240601140505123.wav", "2023.05.15_dawn.wav", "")],
    ],
)
def test_recorders_file_names_hold_the_moment(name, zone, moment):
    found = recorded_at(name, zone)
    assert found.isoformat() == moment and not found.note
    assert found.zone_known == bool(moment[19:]) and (found.source == "file name") == bool(moment)


@pytest.mark.parametrize(
    "name, recorder",
    [
        ("SITE_A_0+1_20161023$195550.wav", "SITE_A"),
        ("ARIZONA-1__0__20161023_195550.wav", "ARIZONA-1"),
        ("WALDEN_1_20161023_195550.wav", "WALDEN"),
        ("24F31901603710A0_20230531_043000.WAV", "24F31901603710A0"),
        ("20230531_043000.WAV", ""),
        ("hide 2024-06-01 14-05-05.mp3", "hide"),
        ("20240501_000000_20240601_140505.wav", "20240501_000000"),
        ("5E90A4D4.WAV", ""),
    ],
)
def test_what_stands_before_the_moment_is_the_recorder(name, recorder):
    assert name_parts(name)[0] == recorder


@pytest.mark.parametrize(
    "name, why",
    [
        ("SM_20230230_250000.wav", "no calendar"),
        ("song_20241399_000000.wav", "no calendar"),
        ("0000-00-00 00-00-00.wav", "no calendar"),
        ("20240601_246060.wav", "no calendar"),
        ("19700101_000512.wav", "nobody has set"),
        ("19700314_000000.wav", "nobody has set"),  # a clock that was never set and went on
        ("19800106_000000.wav", "nobody has set"),
        ("20000101_000000.WAV", "nobody has set"),
        ("00000E10.WAV", "nobody has set"),
        ("20990101_000000.WAV", "still to come"),
    ],
)
def test_a_clock_that_cannot_be_right_gives_no_date_but_a_note(name, why):
    found = recorded_at(name, "Europe/Berlin")
    assert found.time is None and found.isoformat() == "" and not found.zone_known
    assert why in found.note and "the file name says" in found.note


HEADERS = [
    (comment("Recorded at 04:30:00 31/05/2023 (UTC+10) by AudioMoth"), "2023-05-31T04:30:00+10:00"),
    (comment("Recorded at 04:30:00 31/05/2023 (UTC) by AudioMoth"), "2023-05-31T04:30:00+00:00"),
    (comment("Recorded at 04:30:00.250 31/05/2023 (UTC-3:30) by AudioMoth"), "2023-05-31T04:30:00-03:30"),
    (comment("Recorded at 04:30:00 31/05/2023 (UTC+5:45) by AudioMoth"), "2023-05-31T04:30:00+05:45"),
    (comment("Recorded at 04:30:00 31/05/2023 by AudioMoth 0FE081F80FE081F0"), "2023-05-31T04:30:00"),  # old firmware
    (comment("Recorded at 04:30:00 31/05/2023 (UTC+99) by AudioMoth"), "2023-05-31T04:30:00"),
    (guano("Make: Wildlife Acoustics", "Timestamp: 2023-05-31T04:30:00-05:00"), "2023-05-31T04:30:00-05:00"),
    (guano("Timestamp: 2023-05-31T04:30:00+0100"), "2023-05-31T04:30:00+01:00"),
    (guano("Timestamp:2023-05-31 04:30:00.123Z"), "2023-05-31T04:30:00+00:00"),
    (guano("Timestamp: 2023-05-31 04:30:00"), "2023-05-31T04:30:00"),
    (guano("Loc Timestamp: 2011-01-01T00:00:00Z", "Timestamp: 2023-05-31T04:30:00Z"), "2023-05-31T04:30:00+00:00"),
    (guano("OAD|Some Timestamp: 2011-01-01T00:00:00Z", "OAD|Timestamp: 2011-01-01T00:00:00Z"), ""),
    (guano("Note: Timestamp: 2011-01-01T00:00:00Z"), ""),
    (chunk(b"junk", b"GUANO|Version: 1.0\nTimestamp: 2011-01-01T00:00:00Z\n"), ""),  # no chunk of GUANO
    (comment("recorded by Ada"), ""),
    (b"Recorded at 04:30:00 31/05/2023 (UTC) by AudioMoth", ""),  # no chunk at all
]


@pytest.mark.parametrize("header, moment", HEADERS)
@pytest.mark.parametrize("before", [False, True])
def test_a_header_is_read_chunk_by_chunk(tmp_path, header, moment, before):
    other = chunk(b"wxyz", b"odd")  # a length that is filled up
    if before and header[:8] != b"Recorded":
        path = recording(tmp_path / "a.wav", before=(other, header))
    else:
        path = recording(tmp_path / "a.wav", other, header)
    found = recorded_at(path)
    assert found.isoformat() == moment and not found.note and found.zone_known == bool(moment[19:])
    assert found.source == ("" if not moment else "GUANO" if header[:4] == b"guan" else "header comment")
    with_zone = recorded_at(path, "Asia/Tokyo").isoformat()
    assert with_zone == (moment if moment[19:] or not moment else moment + "+09:00")


def test_a_header_is_found_whatever_the_container_says_of_its_sound(tmp_path):
    said = guano("Timestamp: 2023-05-31T04:30:00Z")
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, 802, 401, 0))
    path = recording(tmp_path / "a.wav", said, before=(sizes,), riff=b"RF64", data_size=2**32 - 1)
    assert recorded_at(path).isoformat() == "2023-05-31T04:30:00+00:00"
    (tmp_path / "b.mp3").write_bytes(path.read_bytes())  # under another's suffix
    assert recorded_at(tmp_path / "b.mp3").zone_known
    for size in (0, 1, 2**32 - 1, 10**9):  # a battery died: what stands before the sound is still read
        path = recording(tmp_path / "c.wav", before=(said,), data_size=size)
        assert recorded_at(path).zone_known
    for damaged in (
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEguan\xff\xff\xff\xff",
        b"RIFF\0\0\0\0WAVELIST",
    ):
        (tmp_path / "d.wav").write_bytes(damaged)
        assert recorded_at(tmp_path / "d.wav").time is None


@pytest.mark.parametrize(
    "name, header, moment, note",
    [
        ("20230531_043000.wav", "04:30:00 31/05/2023 (UTC+2)", "2023-05-31T04:30:00+02:00", ""),
        ("20230531_023000.wav", "04:30:00 31/05/2023 (UTC+2)", "2023-05-31T04:30:00+02:00", ""),  # the name's is UTC
        ("20230531_070000.wav", "04:30:00 31/05/2023 (UTC+2)", "2023-05-31T04:30:00+02:00", "which is believed"),
        ("20230531_023000.wav", "04:30:00 31/05/2023", "2023-05-31T04:30:00", "which is believed"),
        ("6476CDE8.WAV", "04:40:00 31/05/2023", "2023-05-31T04:40:00", "which is believed"),
        ("6476CDE8.WAV", "04:32:40 31/05/2023", "2023-05-31T04:32:40+00:00", ""),  # the name knows the comment's zone
        ("20230531T043000+1000.wav", "04:30:00 31/05/2023", "2023-05-31T04:30:00+10:00", ""),
        ("20230531T043000+1000.wav", "18:30:00 30/05/2023 (UTC)", "2023-05-30T18:30:00+00:00", ""),
        ("20230531_043000.wav", "00:00:00 00/00/2000 (UTC)", "2023-05-31T04:30:00", "no calendar has"),
        ("20230230_250000.wav", "04:30:00 31/05/2023 (UTC)", "2023-05-31T04:30:00+00:00", "no calendar has"),
        ("dawn.wav", "00:00:00 01/01/1970 (UTC)", "", "nobody has set"),
    ],
)
def test_headers_are_believed_before_names_and_disagreement_is_said(tmp_path, name, header, moment, note):
    path = recording(tmp_path / name, before=(comment(f"Recorded at {header} by AudioMoth"),))
    found = recorded_at(path)
    assert found.isoformat() == moment and (note in found.note if note else not found.note)


def test_guano_speaks_where_the_comment_cannot_be_right(tmp_path):
    broken = comment("Recorded at 00:00:00 00/00/2000 (UTC) by AudioMoth")
    path = recording(tmp_path / "a.wav", broken, guano("Timestamp: 2023-05-31T04:30:00Z"))
    assert (recorded_at(path).source, recorded_at(path).isoformat()) == ("GUANO", "2023-05-31T04:30:00+00:00")
    path = recording(tmp_path / "b.wav", guano("Timestamp: 31 May 2023"))
    assert recorded_at(path).time is None and "'31 May 2023'" in recorded_at(path).note


def test_a_zone_that_is_none_is_named_before_any_file(tmp_path):
    with pytest.raises(ValueError, match="'Berlin' is not a time zone; give one such as UTC"):
        recorded_at(tmp_path / "song.wav", "Berlin")


def test_a_folder_of_recorders_goes_on_where_a_clock_was_never_set(tmp_path):
    (tmp_path / "Wren").mkdir()
    never = comment("Recorded at 00:00:00 00/00/2000 (UTC) by AudioMoth")
    recording(tmp_path / "Wren" / "a.WAV", before=(never,))
    recording(tmp_path / "Wren" / "b_20230230_250000.wav")
    recording(tmp_path / "Wren" / "20190430_210244.wav", guano("Timestamp: 2019-04-30 21:02:44"))
    recording(tmp_path / "Wren" / "5E90A4D4.WAV")
    sf.write(tmp_path / "Wren" / "c.wav", tone(), 22050)
    with pytest.warns(UserWarning, match="Odd clocks of 2 recordings") as caught:
        table = load_own(tmp_path).set_index("recording_id")
    assert "a.WAV: the header comment says 00:00:00 00/00/2000" in str(caught[0].message)
    assert table.date.to_dict() == {
        "Wren/20190430_210244.wav": "2019-04-30",
        "Wren/5E90A4D4.WAV": "2020-04-10",
        "Wren/a.WAV": "",
        "Wren/b_20230230_250000.wav": "",
        "Wren/c.wav": "",
    }
    assert table.time.tolist() == ["21:02", "16:54", "", "", ""]
    assert table.remarks["Wren/20190430_210244.wav"] == "began 2019-04-30T21:02:44 (GUANO, zone unknown)"
    assert table.remarks["Wren/5E90A4D4.WAV"] == "began 2020-04-10T16:54:44+00:00 (file name)"
    assert "00/00/2000" in table.remarks["Wren/a.WAV"] and table.remarks["Wren/c.wav"] == ""
    assert table.group["Wren/b_20230230_250000.wav"] == "b"


def test_what_the_table_says_is_not_changed(tmp_path):
    rows = [
        ("a", "2023-12-24", "", ""),
        ("b", "2024-06-01", "", ""),
        ("c", "2024-06-01", "05:00", ""),
        ("d", "", "05:00", "Ada"),
    ]
    table = pd.DataFrame(rows, columns=["recording_id", "date", "time", "recordist"])
    table = validate(table.assign(label="Wren", path="SM1_20240601_043000.wav"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled = fill_times(table)
    assert filled.date.tolist() == ["2023-12-24", "2024-06-01", "2024-06-01", "2024-06-01"]
    assert filled.time.tolist() == ["", "04:30", "05:00", "05:00"] and filled.group.tolist() == ["", "SM1", "", ""]


def test_clocks_of_files_that_came_from_the_field(shared_data):
    found = recorded_at(shared_data / "odd" / "20190430_210244.wav")
    assert (found.isoformat(), found.source, found.zone_known) == ("2019-04-30T21:02:44", "GUANO", False)
    given_zone = recorded_at(shared_data / "odd" / "20190430_210244.wav", "Europe/Oslo")
    assert given_zone.isoformat() == "2019-04-30T21:02:44+02:00"
    never_set = recorded_at(shared_data / "odd" / "audiomoth_clock_00-00-2000.WAV")
    assert never_set.time is None and "00/00/2000" in never_set.note
    for row in pd.read_csv(shared_data / "odd" / "T5-odd-dates.recordings.csv", dtype=str).fillna("").itertuples():
        possible = row.date.startswith("2020")
        assert day(row.date) == (row.date if possible else "")
        assert clock(row.time) == ("07:30" if row.time in ("7.30", "07:30:00", "07:30") else "")
