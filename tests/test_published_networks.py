"""The published networks, layer by layer, against a table written from the studies' descriptions, not from our code."""

import keras
import pytest

from avianspec.learning.tasks import Task
from avianspec.runs.catalogue import load_catalogue
from avianspec.studies.birds.networks import build_network
from avianspec.studies.music.networks import build_music_network
from avianspec.studies.tagging.networks import build_tagging_network


def penalty(layer):
    "L2 of a layer's kernel; 0 where there is none. Nothing else of a layer may be penalised."
    others = [getattr(layer, f"{what}_regularizer", None) for what in ("bias", "activity")]
    assert not any(others), layer.name
    kernel = getattr(layer, "kernel_regularizer", None)
    return round(float(kernel.l2), 6) if kernel else 0


def described(model):
    "Each layer in the words of the table; ReLU and bias wherever they stand are named after the layer before them."
    found = []
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D)):
            assert set(layer.strides) == set(layer.dilation_rate) == {1} and layer.groups == 1, layer.name
            assert isinstance(layer.kernel_initializer, keras.initializers.GlorotUniform), layer.name
            found.append(("conv", layer.filters, *layer.kernel_size, layer.padding, penalty(layer)))
            if layer.use_bias:
                found.append(("bias",))
            if layer.activation is keras.activations.relu:
                found.append(("relu",))
        elif isinstance(layer, (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D)):
            assert tuple(layer.strides) == tuple(layer.pool_size) and layer.padding == "valid", layer.name
            found.append(("pool", *layer.pool_size))
        elif isinstance(layer, keras.layers.Dense):
            assert layer.use_bias and isinstance(layer.kernel_initializer, keras.initializers.GlorotUniform), layer.name
            found.append(("dense", layer.units, layer.activation.__name__, penalty(layer)))
        elif isinstance(layer, keras.layers.Dropout):
            found.append(("dropout", round(layer.rate, 6)))
        elif isinstance(layer, keras.layers.Activation):
            found.append((layer.activation.__name__,))
        else:
            found.append((type(layer).__name__,))
    return found[1:] if found[0] == ("InputLayer",) else found


def rounds(*settings, padding="valid", l2=0, drop=0.0):
    """Convolution with bias and ReLU, then the pool, then dropout. We pool before adding the bias and taking what is
    above zero: both rise with their input, so the order makes no difference (a test of the networks shows it)."""
    out = []
    for filters, kernel, pool in settings:
        out += [("conv", filters, *kernel, padding, l2), ("pool", *pool), ("Bias",), ("relu",)]
        out += [("dropout", drop)] if drop else []
    return out


#                 filters, kernels (frames, bands), pools (frames, bands), bands of a window of 128 frames
BIRDS = {
    "v16": (64, (4, 1), ((4, 1), (3, 1), (2, 1)), 148),
    "v18": (64, (3, 3), ((2, 2),) * 3, 148),
    "v17": (60, (3, 3), ((3, 3),) * 3, 148),
    "v20": (64, (3, 3), ((3, 3),) * 3, 128),
}


@pytest.mark.parametrize("name", BIRDS)
def test_networks_of_the_bird_study(name):
    filters, kernel, pools, n_bands = BIRDS[name]
    model = build_network(name, (128, n_bands, 1), 91)
    blocks = rounds(*((filters, kernel, pool) for pool in pools), drop=0.2)
    assert described(model) == [*blocks, ("GlobalAveragePooling2D",), ("dense", 91, "softmax", 0)]


BLOCK = (128, (3, 3), (2, 2))
LARGE = (128, (5, 5), (2, 2))
R = 0.003
MUSIC = {  # rounds, their padding, L2, dropout, dense layers before the last, side of the picture
    "1": ([], "valid", 0, 0, 2, (128, 128)),
    "2": ([], "valid", R, 0, 2, (128, 128)),
    "3": ([BLOCK] * 2, "valid", 0, 0, 1, (128, 128)),
    "3r": ([BLOCK] * 2, "valid", R, 0, 1, (128, 128)),
    "4": ([BLOCK] * 3, "valid", 0, 0, 1, (128, 128)),
    "4l2": ([BLOCK] * 3, "valid", R, 0, 1, (128, 128)),
    "4r": ([BLOCK] * 3, "valid", R, 0.2, 1, (128, 128)),
    "5": ([(n, (3, 3), (2, 2)) for n in (128, 256, 512)], "valid", 0, 0, 1, (128, 128)),
    "6": ([BLOCK] * 3, "same", R, 0.2, 1, (128, 128)),
    "7": ([BLOCK] * 6, "same", R, 0.2, 1, (128, 128)),
    "8": ([LARGE] * 6, "same", R, 0.3, 1, (128, 128)),
    "9": ([LARGE] * 6, "same", R, 0.5, 1, (128, 128)),
    "10": ([LARGE] * 6, "same", R, 0.3, 1, (220, 216)),
}


@pytest.mark.parametrize("name", MUSIC)
def test_networks_of_the_music_study(name):
    blocks, padding, l2, drop, n_dense, size = MUSIC[name]
    expected = [*rounds(*blocks, padding=padding, l2=l2, drop=drop), ("Flatten",)]
    expected += [("dense", 128, "relu", l2)] * n_dense + [("dense", 10, "softmax", 0)]
    assert described(build_music_network(name, (*size, 3), 10)) == expected


def test_the_raw_wave_network_of_the_tagging_study():
    expected = []
    for filters, kernel, pool, drop in ((16, 9, 16, 0.1), (32, 3, 4, 0.1), (32, 3, 4, 0.1), (256, 3, None, 0.2)):
        expected += [("conv", filters, kernel, "valid", 0), ("bias",), ("relu",)] * 2
        expected += [("pool", pool) if pool else ("GlobalMaxPooling1D",), ("dropout", drop)]
    expected += [("dense", 64, "relu", 0), ("dense", 1028, "relu", 0), ("dense", 41, "softmax", 0)]
    task = Task(tuple(f"class {k}" for k in range(41)))
    assert described(build_tagging_network("wave", task, (32_000, 1))) == expected


def test_the_mfcc_network_of_the_tagging_study():
    block = [("conv", 32, 10, 4, "same", 0), ("bias",), ("BatchNormalization",), ("relu",), ("pool", 2, 2)]
    tail = [("Flatten",), ("dense", 64, "linear", 0), ("BatchNormalization",), ("relu",), ("dense", 41, "softmax", 0)]
    task = Task(tuple(f"class {k}" for k in range(41)))
    net = build_tagging_network("mfcc", task, (173, 40, 1))
    assert described(net) == [("Standardise",), *block * 4, *tail]


@pytest.mark.parametrize(
    "names, wanted",
    [
        ("birds-v16 birds-v17 birds-v18 birds-v20", dict(batch_size=64, learning_rate=0.001, n_frames=128, n_folds=3)),
        ("birds-final", dict(batch_size=64, learning_rate=0.001, final_epochs=150, crop_seeds=5)),
        ("music-1 music-2", dict(batch_size=64, epochs=20, patience=0)),
        (
            "music-3 music-4 music-4l2 music-5 music-6 music-7 music-8 music-9 music-10",
            dict(batch_size=64, epochs=200, patience=3),
        ),
    ],
)
def test_catalogue_trains_as_published(names, wanted):
    catalogue = load_catalogue()
    for name in names.split():
        assert catalogue[name].parameters | wanted == catalogue[name].parameters, name
