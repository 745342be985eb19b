"""How fast the residual network trains on the device that JAX finds, and what share of the device's speed that is.

    KERAS_BACKEND=jax python benchmarks/accelerator.py [--steps 30] [--size 8192] [--largest 1024]

Steps are timed twice: alone, with their batch on the device, and as they are trained, with each batch sent there.
The device's ceiling is the product of two square matrices of the side --size, as JAX multiplies them unless told
otherwise: on a GPU, float32 in the ten bits of mantissa of TF32. Operations are counted by hand: a multiplication and
an addition for each weight of a convolution or dense layer at each place, three times over for training. --largest
bounds the batches.
On a processor: --steps 3 --size 1024 --largest 16. Writes report/benchmarks/accelerator.json and a table.
"""

import itertools
import time

import numpy as np
from timing import arguments, table, write

from avianspec.learning.models import keras
from avianspec.learning.residual import MixedBatches, ResidualConfig, to_be_trained

BATCHES, BANDS, CLASSES, ROUNDS, PRODUCTS = (16, 64, 256, 1024), 96, 7, 5, 10
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}  # of training: of products


def batches(cfg):
    "Batches of invented recordings: noise above a background, as long as a minute."
    rng = np.random.default_rng(0)
    seen = [np.maximum(rng.standard_normal((3000, BANDS), np.float32), 0) for _ in range(4 * CLASSES)]
    places = np.arange(len(seen)) % CLASSES
    return MixedBatches(seen, places, np.full(len(seen), 1 / len(seen)), cfg)


def operations(model):
    "Floating-point operations of a training step, for each window."
    known = [layer for layer in model.layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))]
    return sum(6 * int(np.prod(layer.output.shape[1:-1])) * int(np.prod(layer.kernel.shape)) for layer in known)


def seconds(do, times):
    "Median over rounds of the time of one of several runs, of a function that waits for the device at its end."
    took = []
    for k in range(ROUNDS + 1):
        began = time.perf_counter()
        do(times)
        if k:  # the first round compiles
            took.append((time.perf_counter() - began) / times)
    return float(np.median(took))


def ceiling(size, dtype):
    "Operations per second of a large product of matrices, each of which takes the one before."
    import jax

    first, second = (jax.random.normal(jax.random.key(k), (size, size), dtype) for k in (0, 1))
    product = jax.jit(lambda a, b: a @ b / size**0.5)  # values stay as large as they are

    def multiply(times):
        x = first
        for _ in range(times):
            x = product(x, second)
        x.block_until_ready()

    return 2 * size**3 / seconds(multiply, PRODUCTS)


def step_alone(model, x, y, steps):
    "Seconds of a step whose batch lies on the device, by what Keras 3.15 does inside; then the network is used up."
    import jax

    batch, kinds = (*jax.device_put((x, y)), None), ("trainable", "non_trainable", "optimizer", "metrics")
    state = [model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})]

    def train(times):
        for _ in range(times):
            state[0] = model.train_function(state[0], iter([batch]))[1]
        jax.block_until_ready(state[0])

    return seconds(train, steps)


def measured(precision, size, steps, peak):
    "What is known of one precision and one size of batches."
    cfg = ResidualConfig(batch_size=size, precision=precision)
    model, source = to_be_trained(cfg, BANDS, CLASSES), batches(cfg)
    x, y = source.next()
    trained = seconds(lambda times: [model.train_on_batch(x, y) for _ in range(times)], steps)
    alone, made = step_alone(model, x, y, steps), seconds(lambda times: source.next(), 1)
    speed = size * operations(model) / alone
    facts = dict(precision=precision, batch=size, step_ms=1000 * alone, trained_ms=1000 * trained, made_ms=1000 * made)
    return facts | dict(operations=size * operations(model), speed=speed, share=speed / peak)


def markdown(v):
    "The table, and what it was measured on."
    peaks = " and ".join(f"{speed / 1e12:,.2f} in {name}" for name, speed in v["ceilings"].items())
    largest, tf32 = max(r["batch"] for r in v["rows"]), " (as TF32)" * (v["device"] != "cpu")
    lines = [
        f"Training steps of the residual network on the device {v['device']}, beside {v['processor']} ({v['cores']} "
        f"cores), by JAX {v['jax']}; medians of {ROUNDS} rounds of {v['steps']} steps, and of {ROUNDS} batches made "
        f"({v['date']}). Ceiling: a product of matrices of the side {v['size']:,}, {peaks}{tf32} TFLOP/s. *GFLOP a "
        "step*: multiplications and additions of all convolutions and dense layers, three times over for training.",
    ]
    told = ("precision", "windows a batch", "GFLOP a step", "steps/s", "windows/s", "TFLOP/s", "share of the ceiling")
    lines += table(*told, "ms as trained", "ms to make a batch")
    for r in v["rows"]:
        steps = 1000 / r["step_ms"]
        cells = [f"{r['batch']:,}", f"{r['operations'] / 1e9:,.1f}", f"{steps:,.1f}", f"{steps * r['batch']:,.0f}"]
        cells += [f"{r['speed'] / 1e12:,.3f}", f"{r['share']:.1%}", f"{r['trained_ms']:,.1f}", f"{r['made_ms']:,.1f}"]
        lines.append(f"| {r['precision'].replace('_', ' ')} | {' | '.join(cells)} |")
    command = f"benchmarks/accelerator.py --steps {v['steps']} --size {v['size']} --largest {largest}"
    return "\n".join([*lines, "", "```sh", f"KERAS_BACKEND=jax .venv/bin/python {command}", "```", ""])


if __name__ == "__main__":
    args = arguments(__doc__, steps=30, size=8192, largest=1024)
    if keras.config.backend() != "jax":
        raise SystemExit(f"JAX is measured, not {keras.config.backend()}: write KERAS_BACKEND=jax before the command")
    import jax

    ceilings = {dtype: ceiling(args.size, dtype) for dtype in PRECISIONS.values()}
    pairs = itertools.product(PRECISIONS, [size for size in BATCHES if size <= args.largest])
    rows = [measured(p, size, args.steps, ceilings[PRECISIONS[p]]) for p, size in pairs]
    facts = dict(device=jax.devices()[0].device_kind, jax=jax.__version__, size=args.size, steps=args.steps)
    write("accelerator", dict(facts, ceilings=ceilings, rows=rows), markdown)
