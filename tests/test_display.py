"""Pictures and players of one sound, against librosa and arithmetic."""

import io

import librosa
import matplotlib
import numpy as np
import pytest
import soundfile as sf
from conftest import sweep

from avianspec.sound import display
from avianspec.sound.audio import Audio

matplotlib.use("agg")
SR = 22050


pytestmark = pytest.mark.usefixtures("close_figures")


def test_mono_is_the_mean_of_the_channels_at_the_wanted_rate():
    y = sweep(sr=44100)
    ours = display.mono(Audio(np.column_stack([y, 0.5 * y]), 44100))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, librosa.resample(0.75 * y, orig_sr=44100, target_sr=SR), atol=1e-6)


def test_reference_features_are_librosa_turned_to_time_first():
    y = sweep()
    f = display.reference_features(y)
    power = librosa.feature.melspectrogram(y=y, sr=SR)
    np.testing.assert_array_equal(f["power"], power.T)
    np.testing.assert_allclose(
        f["log_power"], librosa.power_to_db(power, top_db=None).T * np.log(10) / 10, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(f["mfcc"], librosa.feature.mfcc(y=y, sr=SR, n_mfcc=20).T)


@pytest.mark.parametrize("hertz", [300, 1000, 4000, 8000])
@pytest.mark.parametrize("fmin, fmax", [(0, None), (150, 10000)])
def test_kilohertz_ticks_lie_on_the_bands_that_a_tone_lights(hertz, fmin, fmax):
    tone = np.sin(2 * np.pi * hertz * np.arange(SR) / SR).astype(np.float32)
    lit = librosa.feature.melspectrogram(y=tone, sr=SR, fmin=fmin, fmax=fmax)[:, 20].argmax()
    ax = display.plot_spectrogram(np.zeros((44, 128)), fmin=fmin, fmax=fmax)
    known = [float(t.get_text()) * 1000 for t in ax.get_yticklabels()]
    assert (
        abs(np.interp(hertz, known, ax.get_yticks()) - (lit + 0.5)) < 3.5
    )  # between ticks the scale is only nearly linear
    if hertz in known:
        assert abs(ax.get_yticks()[known.index(hertz)] - (lit + 0.5)) <= 1


def test_a_waveform_whole_and_zoomed_in_marks_the_window_that_it_shows():
    y = np.zeros(4 * SR, np.float32)
    y[SR : SR + 100] = np.linspace(-0.5, 0.5, 100)
    whole, window = display.plot_waveform_zoom(y, SR, offset_s=1.0, duration_s=100 / SR)
    assert whole.get_xlim() == pytest.approx((0, 4)) and window.get_xlim() == pytest.approx((1, 1 + 100 / SR))
    corners = whole.patches[0].get_extents().transformed(whole.transData.inverted())
    assert (corners.x0, corners.x1) == pytest.approx((1, 1 + 100 / SR))
    seconds, drawn = window.lines[0].get_data()
    np.testing.assert_array_equal(drawn, y[SR : SR + 100])
    np.testing.assert_allclose(seconds, 1 + np.arange(100) / SR)
    assert {(ax.get_xlabel(), ax.get_ylabel()) for ax in (whole, window)} == {("time (s)", "amplitude")}
    y[-10] = 0.9  # the loudest sample, close to the end: the window ends there
    again = display.plot_waveform_zoom(y, SR, duration_s=0.5, axes=(whole, window))
    assert again == (whole, window) and window.get_xlim() == pytest.approx((3.5, 4))
    assert display.plot_waveform_zoom(y[:100], SR)[1].get_xlim()[1] == pytest.approx(100 / SR)
    for offset_s in (-0.1, 3.6):
        with pytest.raises(ValueError, match="lasts 4 s"):
            display.plot_waveform_zoom(y, SR, offset_s, 0.5)


def test_spectrogram_draws_time_to_the_right_and_seconds_below():
    S = np.zeros((100, 128))
    S[70:, 5] = 1
    ax = display.plot_spectrogram(S, sr=SR, hop_length=512)
    drawn = ax.images[0].get_array()
    assert drawn.shape == (128, 100) and drawn[5, 70] == 1 and drawn[5, 69] == 0
    assert ax.get_xlim()[1] == pytest.approx(100 * 512 / SR) and ax.images[0].origin == "lower"


def test_spectrogram_refuses_a_batch():
    with pytest.raises(ValueError, match=r"\(4, 100, 128\)"):
        display.plot_spectrogram(np.zeros((4, 100, 128)))


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize("y", [sweep()[:600], np.zeros(SR, np.float32)], ids=["27 ms", "silence"])
def test_a_sheet_can_be_drawn_of_the_shortest_clip_and_of_silence(y):
    fig = display.plot_recording(y, title="short")
    fig.canvas.draw()
    assert fig.get_suptitle() == "short" and len(fig.axes) >= 8


def test_player_carries_the_excerpt_asked_for():
    y = np.concatenate([np.zeros(2 * SR, np.float32), sweep(2.0)])
    widget = display.player(y, offset_s=2.0, max_s=1.0)
    decoded, sr = sf.read(io.BytesIO(widget.data))
    assert sr == SR and len(decoded) / sr == pytest.approx(1, abs=0.1) and np.abs(decoded).max() > 0.2
    assert "audio/mpeg" in widget._repr_html_() and len(widget.data) < 30_000
