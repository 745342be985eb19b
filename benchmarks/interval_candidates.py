"""Whether another interval by group would cover more evenly than that of avianspec.scoring.intervals.

    nice python benchmarks/interval_candidates.py [--sets 1000]

The made-up test sets are those of interval_coverage.py, with a truth of 0.98 besides; what varies is one step of the
interval at a time. Writes report/benchmarks/candidates.json and a table.
"""

import itertools
import zlib

import numpy as np
from interval_coverage import (
    AGREEMENTS,
    GAP,
    GROUPS,
    HIGH,
    LOW,
    SCORES,
    SIZES,
    TRUTHS,
    USED,
    group_sizes,
    made_up,
    used,
)
from scipy.special import expit, logit
from scipy.stats import beta, norm
from timing import arguments, table, write

from avianspec.scoring import intervals

CORRELATIONS = np.array(intervals.CORRELATIONS)


def t_values(sizes):
    "t of `intervals.t_quantile` for each of CORRELATIONS; what is used is the largest."
    drawn = intervals._reference_t(tuple(sorted(map(int, sizes))))
    return np.quantile(drawn, 0.95, axis=1)


def agreement_found(value, without, sizes):
    "Correlation of answers of a group by the method of moments, drawn towards 0.1 as by four more groups."
    n, weight = sizes.sum(), sizes / sizes.sum()
    means = (value[:, None] - without) * (n - sizes) / sizes  # of each group, from the score of all

    def expected(variance):
        return (weight * (variance * (1 - 2 * weight) + (weight**2 * variance).sum())).sum()

    share = (value * n + 1) / (n + 2)
    square = (weight * means**2).sum(axis=1) / (share * (1 - share))
    least, most = expected(1 / sizes), expected(np.ones(len(sizes)))
    found = np.clip((square - least) / (most - least), 0, 1)
    return (found * len(sizes) + 0.4) / (len(sizes) + 4)


def on_scale(to, back, value, without, half, t):
    "Ends symmetric on a scale, `half` an answer right and wrong added to each score."
    half = np.broadcast_to(half, value.shape)
    middle = to((value + half) / (1 + 2 * half))
    reach = t * intervals.jackknife_se(middle, to((np.clip(without, 0, 1) + half[:, None]) / (1 + 2 * half[:, None])))
    return tuple(np.clip(back(z) * (1 + 2 * half) - half, 0, 1) for z in (middle - reach, middle + reach))


def effective_ends(value, without, sizes, t, added):
    "Beta ends at the effective size: Korn and Graubard's by Clopper and Pearson (added 1), or Jeffreys' (0.5)."
    se, inside = intervals.jackknife_se(value, without), np.clip(value, 1e-9, 1 - 1e-9)
    n = np.where(se < 1e-12, len(sizes), inside * (1 - inside) / np.maximum(se, 1e-12) ** 2)
    n = np.minimum(n, sizes.sum()) * (norm.ppf(0.975) / t) ** 2
    right, wrong = inside * n, (1 - inside) * n
    low = np.where(value <= 0, 0, beta.ppf(0.025, right + 1 - added, wrong + added))
    return low, np.where(value >= 1, 1, beta.ppf(0.975, right + added, wrong + 1 - added))


def of_means(score, value, without, sizes):
    "Intervals of a score between 0 and 1."
    t, n, kept = t_values(sizes), int(sizes.sum()), used(score, value, without, sizes)
    alike, found = np.ptp(without, axis=1) < 1e-12, agreement_found(value, without, sizes)
    effective = np.array([intervals.effective_items(sizes, c) for c in np.linspace(0, 1, 21)])
    speak_for = np.interp(found, np.linspace(0, 1, 21), effective)

    def log_odds(half, t):
        ends = on_scale(logit, expit, value, without, half, t)
        return tuple(np.where(alike, k, e) for k, e in zip(kept, ends, strict=True))

    def arcsine(t):
        to, back = (lambda x: np.arcsin(np.sqrt(x))), (lambda z: np.sin(np.clip(z, 0, np.pi / 2)) ** 2)
        ends = on_scale(to, back, value, without, 0.5 / n, t)
        return tuple(np.where(alike, k, e) for k, e in zip(kept, ends, strict=True))

    by_agreement = np.interp(found, CORRELATIONS, t)
    return {
        USED: kept,
        "t of the mean correlation": log_odds(0.5 / n, t.mean()),
        "t of the correlation found": log_odds(0.5 / n, by_agreement),
        "half an effective answer": log_odds(0.5 / speak_for, t.max()),
        "half an effective answer, t of the correlation found": log_odds(0.5 / speak_for, by_agreement),
        "arcsine scale": arcsine(t.max()),
        "Korn and Graubard": effective_ends(value, without, sizes, t.max(), 1),
        "Jeffreys at the effective size": effective_ends(value, without, sizes, t.max(), 0.5),
    }


def of_differences(score, value, without, sizes):
    "Intervals of a difference of two scores."
    t, jackknife = t_values(sizes), intervals.jackknife_se(value, without)
    item = 1 / (intervals.effective_items(sizes) + 4)

    def ends(t, se):
        return value - t * se, value + t * se

    return {
        USED: used(score, value, without, sizes),
        "t of the mean correlation": ends(t.mean(), np.maximum(jackknife, 2 * item)),
        "at least one item": ends(t.max(), np.maximum(jackknife, item)),
        "at least one item, t of the mean correlation": ends(t.mean(), np.maximum(jackknife, item)),
        "one item added": ends(t.max(), np.hypot(jackknife, item)),
        "two items added": ends(t.max(), np.hypot(jackknife, 2 * item)),
    }


def one_situation(score, n, kind, truth, agreement, n_sets):
    "Coverage, and mean width against the interval that is used, of every candidate in one situation."
    rng = np.random.default_rng(zlib.crc32(f"{score} {n} {kind} {truth} {agreement}".encode()))
    sizes = group_sizes(kind, n)
    target, value, without, _ = made_up(score, rng, n_sets, sizes, truth, agreement)
    ends = (of_differences if score == "difference" else of_means)(score, value, without, sizes)
    wide = np.mean(ends[USED][1] - ends[USED][0])
    covered = {name: float(((low <= target) & (target <= high)).mean()) for name, (low, high) in ends.items()}
    return {name: (covered[name], float(np.mean(high - low) / wide)) for name, (low, high) in ends.items()}


def summarised(found):
    "Of the situations of a score (dicts by candidate): what the table shows of each candidate."
    rows = {}
    for name in found[0]:
        covered, width = np.array([situation[name] for situation in found]).T
        within = float(((covered >= LOW) & (covered <= HIGH)).mean())
        rows[name] = dict(
            lowest=float(covered.min()), below=float((covered < LOW).mean()), within=within, width=float(width.mean())
        )
    return rows


def markdown(v):
    "What was tried, as a page fragment."
    lines = [
        f"{v['situations']} situations from {intervals.MIN_GROUPS} groups up, {v['sets']:,} made-up test sets each; "
        f"truth {', '.join(map(str, v['truths']))} ({v['date']}).",
        *table("score and interval", "lowest", "below 93 %", "within 93–97 %", "mean width"),
    ]
    for score, rows in v["scores"].items():
        for name, r in sorted(rows.items(), key=lambda row: (row[0] != USED, -row[1]["within"])):
            shown = f"{score}: **{name}**" if name == USED else f"{score}: {name}"
            lines.append(f"| {shown} | {r['lowest']:.1%} | {r['below']:.0%} | {r['within']:.0%} | {r['width']:.2f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    args = arguments(__doc__, sets=1000)
    truths, scores, situations = (*TRUTHS, 0.98), {}, 0
    enough = [n for n in GROUPS if n >= intervals.MIN_GROUPS]
    for score in SCORES:
        possible = [truth for truth in truths if score != "difference" or truth + GAP < 1]
        each = itertools.product([score], enough, SIZES, possible, AGREEMENTS)
        found = [one_situation(*situation, args.sets) for situation in each]
        situations += len(found)
        scores[score] = summarised(found)
    write("candidates", dict(sets=args.sets, truths=truths, situations=situations, scores=scores), markdown)
