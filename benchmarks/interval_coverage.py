"""How often intervals by group cover the truth: that of avianspec.scoring.intervals, and others in its place.

    nice python benchmarks/interval_coverage.py [--sets 2000] [--fresh 1]

Test sets are made up whose truth is known: groups of three kinds of sizes, answers that correlate within a group,
scores in the middle and near 1. Every situation is kept in report/benchmarks/coverage.json as soon as it is done, so
the study can be stopped and goes on where it was. Also writes a table and report/benchmarks/coverage.png.
"""

import itertools
import json
import zlib

import matplotlib
import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta, norm
from scipy.stats import t as student
from timing import OUT, arguments, write

from avianspec.files import write_json
from avianspec.scoring import few_groups, intervals

GROUPS, SIZES = (5, 6, 10, 20, 40), ("equal", "unequal", "one of half")
TRUTHS, AGREEMENTS = (0.5, 0.7, 0.9, 0.95), (0.01, 0.1, 0.3)
SCORES = ("accuracy", "balanced accuracy", "lwlrap", "difference", "no difference")
GAP = {"difference": 0.03, "no difference": 0.0}  # of the scores that are differences: the truth
N_CLASSES, DRAWS = 5, 1999
USED, LOW, HIGH = "avianspec", 0.93, 0.97


def group_sizes(kind, n):
    "Recordings in each group."
    if kind == "equal":
        return np.full(n, 10)
    if kind == "unequal":  # quantiles of a log-normal distribution, as recordists have them: half make a fifth of all
        return np.maximum(1, np.rint(np.exp(1.8 + norm.ppf((np.arange(n) + 0.5) / n)))).astype(int)
    return np.append(6 * (n - 1), np.full(n - 1, 6))


def skills(rng, shape, truth, agreement, gap):
    "Share of right answers of each group, and of each group with another network; two answers of a group correlate."
    odds = 1 / agreement - 1
    u = rng.normal(size=shape)
    v = 0.7 * u + np.sqrt(1 - 0.49) * rng.normal(size=shape)
    return tuple(beta.ppf(norm.cdf(z), p * odds, (1 - p) * odds) for z, p in ((u, truth), (v, truth + gap)))


def made_up(score, rng, n_sets, sizes, truth, agreement):
    """Truth; score of each test set; without each group; what an item moves; for means also sums by group.

    What an item moves: its variance over that of right-or-wrong answers; of a difference, the share of items apart.
    """
    first, second = skills(rng, (n_sets, len(sizes)), truth, agreement, GAP.get(score, 0.0))
    if score == "balanced accuracy":
        profile = rng.dirichlet(np.ones(N_CLASSES), (n_sets, len(sizes)))
        n = np.stack([rng.multinomial(size, profile[:, g]) for g, size in enumerate(sizes)], axis=1)
        return truth, *balanced(rng.binomial(n, first[:, :, None]), n), None
    if score in GAP:
        better = rng.binomial(sizes, second)  # of which the first has some right, too, and some of the others
        both, worse = rng.binomial(better, first), rng.binomial(sizes - better, first)
        sums, apart = (better - both - worse).astype(float), (better - both + worse).sum(axis=1) / sizes.sum()
        return GAP[score], *few_groups.means_without(sums, sizes), apart, sums
    sums = squares = rng.binomial(sizes, first).astype(float)
    if score == "lwlrap":  # the true label first, or second to fourth
        others = 1 / np.array([2, 3, 4])
        ranks = rng.multinomial((sizes - sums).astype(int), np.full(3, 1 / 3))
        sums, squares = sums + ranks @ others, squares + ranks @ others**2
        truth = truth + (1 - truth) * others.mean()
    value, without = few_groups.means_without(sums, sizes)
    return truth, value, without, over_likely(squares.sum(axis=1) / sizes.sum() - value**2, value), sums


def over_likely(variance, value):
    "Variance over that of right-or-wrong answers; 1 where none is wrong, or none right."
    likely = value * (1 - value)
    return np.where(np.minimum(likely, variance) > 1e-12, variance / np.maximum(likely, 1e-12), 1.0)


def balanced(right, n):
    "Mean share of right answers over the classes that are there: of all groups, without each; what an item moves."
    all_right, all_n = right.sum(axis=1), n.sum(axis=1)
    with np.errstate(invalid="ignore"):
        every = all_right / all_n
        without = (all_right[:, None] - right) / (all_n[:, None] - n)
        each = every * (1 - every) / all_n  # variance of the share of one class
    value, n_classes = np.nanmean(every, axis=-1), (all_n > 0).sum(axis=1)
    variance = all_n.sum(axis=1) * np.nansum(each, axis=1) / n_classes**2
    return value, np.nanmean(without, axis=-1), over_likely(variance, value)


def used(score, value, without, moves, sizes):
    "The interval of avianspec.scoring.intervals: low, high; of a difference also its p-value."
    if score in GAP:
        se = few_groups.difference_se(value, without, sizes)
        each = zip(value, se, moves, strict=True)
        return np.array([intervals.tested_difference(v, s, sizes, apart)[1:4] for v, s, apart in each]).T
    alike, each = np.ptp(without, axis=1) < 1e-12, zip(value, without, moves, strict=True)
    ends = [
        few_groups.exact_ends(v, len(sizes)) if same else intervals.bounded_ends(v, w, sizes, spread)
        for same, (v, w, spread) in zip(alike, each, strict=True)
    ]
    return np.array(ends).T


def by_normal_answers(score, value, without, sizes):
    "As the interval that is used, but with the t of normal answers, whatever the truth."
    t, n = few_groups.t_quantile(sizes), int(sizes.sum())
    if score in GAP:
        reach = t * few_groups.difference_se(value, without, sizes)
        return value - reach, value + reach
    middle = few_groups.log_odds(value, n)
    reach = t * few_groups.jackknife_se(middle, few_groups.log_odds(without, n))
    low, high = few_groups.share_of(middle - reach, n), few_groups.share_of(middle + reach, n)
    alike = np.ptp(without, axis=1) < 1e-12
    exact = np.array([few_groups.exact_ends(v, len(sizes)) for v in value[alike]]).reshape(-1, 2)
    low[alike], high[alike] = exact.T
    return low, high


def satterthwaite(weight):
    "Degrees of freedom of a cluster-robust variance (CR2), of groups whose means are equally uncertain."
    n = len(weight)
    spread = (np.eye(n) - weight) * (weight / np.sqrt(1 - weight))[:, None]
    matrix = spread @ spread.T
    return np.trace(matrix) ** 2 / (matrix**2).sum()


def by_formula(value, sums, sizes, bounded):
    "Intervals without draws."
    n, weight = len(sizes), sizes / sizes.sum()
    residual = weight * (sums / sizes - value[:, None])
    robust = np.sqrt((residual**2 / (1 - weight)).sum(axis=1))
    reach = student.ppf(0.975, satterthwaite(weight)) * robust
    out = {"cluster-robust t, Satterthwaite": (value - reach, value + reach)}
    cautious = np.sqrt((n - 1) / n * (residual**2 / (1 - weight) ** 2).sum(axis=1))
    reach = student.ppf(0.975, n - 1) * cautious
    out["jackknife t, G − 1"] = (value - reach, value + reach)
    if bounded:
        inside = np.clip(value, 1e-9, 1 - 1e-9)
        reach = student.ppf(0.975, n - 1) * cautious / (inside * (1 - inside))
        out["jackknife t, G − 1, log-odds"] = (expit(logit(inside) - reach), expit(logit(inside) + reach))
        middle, reach = np.arcsin(np.sqrt(inside)), reach * np.sqrt(inside * (1 - inside)) / 2
        ends = (np.sin(np.clip(x, 0, np.pi / 2)) ** 2 for x in (middle - reach, middle + reach))
        out["jackknife t, G − 1, arcsine"] = tuple(ends)
    return out


def by_draws(value, sums, sizes, rng):
    "Intervals from draws of whole groups."
    n = len(sizes)
    drawn = rng.multinomial(n, np.full(n, 1 / n), DRAWS).T
    many = sums @ drawn / (sizes @ drawn)
    ordered = np.sort(many, axis=1)
    out = {"percentile bootstrap": tuple(np.quantile(ordered, [0.025, 0.975], axis=1))}
    weight = sizes / sizes.sum()
    influence = weight * (sums / sizes - value[:, None])
    skew = (influence**3).sum(axis=1) / np.maximum(6 * (influence**2).sum(axis=1) ** 1.5, 1e-30)
    below = (many < value[:, None]).mean(axis=1) / 2 + (many <= value[:, None]).mean(axis=1) / 2
    bias, ends = norm.ppf(np.clip(below, 0.5 / DRAWS, 1 - 0.5 / DRAWS)), []
    for z in norm.ppf([0.025, 0.975]):
        level = norm.cdf(bias + (bias + z) / np.maximum(1 - skew * (bias + z), 1e-9))
        ends.append(ordered[np.arange(len(value)), np.clip(level * DRAWS, 0, DRAWS - 1).astype(int)])
    out["BCa bootstrap"] = tuple(ends)
    squares = (sums**2) @ drawn - 2 * many * ((sums * sizes) @ drawn) + many**2 * (sizes**2 @ drawn)
    error = np.sqrt(np.maximum(squares, 0)) / (sizes @ drawn)
    own = np.sqrt((influence**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(error > 0, (many - value[:, None]) / error, np.inf * np.sign(many - value[:, None]))
    low, high = np.quantile(np.nan_to_num(t, nan=0.0, posinf=1e6, neginf=-1e6), [0.025, 0.975], axis=1)
    out["bootstrap-t"] = (value - high * own, value - low * own)
    return out


def wild_covers(truth, sums, sizes, rng):
    "Whether the wild cluster bootstrap with the truth imposed (Webb's six weights) keeps the truth."
    webb = np.sqrt(np.array([0.5, 1, 1.5]))
    v = rng.choice(np.append(webb, -webb), (len(sizes), DRAWS))
    weight, part = sizes / sizes.sum(), (sums - truth * sizes) / sizes.sum()

    def t(total, squares, crossed):
        spread = np.maximum(squares - 2 * total * crossed + total**2 * (weight**2).sum(), 1e-18)
        return np.abs(total) / np.sqrt(spread)

    drawn = t(part @ v, part**2 @ v**2, (part * weight) @ v)
    own = t(part.sum(axis=1), (part**2).sum(axis=1), (part * weight).sum(axis=1))
    return (drawn >= own[:, None] - 1e-12).mean(axis=1) > 0.05


def one_situation(score, n, kind, truth, agreement, n_sets):
    "Coverage and median width of every method in one situation."
    rng = np.random.default_rng(zlib.crc32(f"{score} {n} {kind} {truth} {agreement}".encode()))
    sizes = group_sizes(kind, n)
    target, value, without, moves, sums = made_up(score, rng, n_sets, sizes, truth, agreement)
    found = used(score, value, without, moves, sizes)
    ends = {USED: found[:2]}
    ends["t of normal answers"] = by_normal_answers(score, value, without, sizes)
    if score in ("accuracy", *GAP):
        ends |= by_formula(value, sums, sizes, score == "accuracy") | by_draws(value, sums, sizes, rng)
    rows = {}
    for name, (low, high) in ends.items():
        covered = float(((low <= target) & (target <= high)).mean())
        rows[name] = dict(coverage=covered, width=round(float(np.nanmedian(high - low)), 4))
    if sums is not None and score != "lwlrap":
        rows["wild cluster bootstrap"] = dict(coverage=float(wild_covers(target, sums, sizes, rng).mean()), width=None)
    facts = dict(score=score, groups=n, sizes=kind, truth=truth, agreement=agreement, methods=rows)
    return facts | ({"told_of_twenty": 20 * float((found[2] < 0.05 / 20).mean())} if score in GAP else {})


def coverages(cells, scores, name):
    "Coverage of a method in every situation of some scores, from MIN_GROUPS groups up."
    here = [c for c in cells if c["score"] in scores and c["groups"] >= intervals.MIN_GROUPS]
    return [c["methods"][name]["coverage"] for c in here]


def lie_within(found, more=0.0):
    "How many coverages lie within 93 to 97 %, or a little beyond."
    return sum(LOW - more <= x <= HIGH + more for x in found)


def summarised(cells, score, name):
    "Lowest, mean and highest coverage of a method; share of situations below, and within, 93 to 97 %."
    found = coverages(cells, [score], name)
    within = lie_within(found) / len(found)
    return min(found), np.mean(found), max(found), np.mean([x < LOW for x in found]), within


def markdown(v):
    "What the study found, as a page fragment."
    cells = v["cells"]
    lines = [
        f"{len(cells)} situations, {v['sets']:,} made-up test sets each: {', '.join(map(str, GROUPS))} groups; "
        "of one size, of unequal sizes, or one with half of all recordings; answers of a group correlated by "
        f"{' or '.join(map(str, AGREEMENTS))}; truth {', '.join(map(str, TRUTHS))} ({v['date']}). "
        f"From {intervals.MIN_GROUPS} groups up:",
        "",
        "| score | method | lowest | mean | highest | below 93 % | within 93–97 % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for score in SCORES:
        names = dict.fromkeys(n for c in cells if c["score"] == score for n in c["methods"])
        for name in sorted(names, key=lambda n: (n != USED, -summarised(cells, score, n)[0])):
            low, mean, high, below, within = summarised(cells, score, name)
            shown = f"**{name}**" if name == USED else name
            lines.append(f"| {score} | {shown} | {low:.1%} | {mean:.1%} | {high:.1%} | {below:.0%} | {within:.0%} |")
    there = coverages(cells, [score for score in SCORES if score != "no difference"], USED)
    none = coverages(cells, ["no difference"], USED)
    told = [c["told_of_twenty"] for c in cells if c["score"] == "no difference" and c["groups"] >= intervals.MIN_GROUPS]
    lines += [
        "",
        f"Of {len(there)} situations of scores, and of differences that are there, {lie_within(there)} lie within 93 "
        f"to 97 %, {lie_within(there, 0.005)} within 92.5 to 97.5 %; the lowest is {min(there):.1%}, the highest "
        f"{max(there):.1%}. Of {len(none)} where there is no difference "
        f"{sum(x < LOW for x in none)} lie below 93 %, {sum(x > HIGH for x in none)} above 97 %.",
        "",
        "Of twenty comparisons of equal networks in one table, corrected for being many, some difference is told in at "
        f"most {np.mean(told):.1%} of such tables, and in no situation in more than {max(told):.1%}; promised are 5 %.",
    ]
    return "\n".join([*lines, ""])


def plot(cells):
    "Coverage by number of groups, a panel for each score: every situation of what is used, the worst of the others."
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(SCORES), figsize=(10, 3.8), sharey=True, layout="constrained")
    marks = dict(zip(TRUTHS, ("o", "D", "s", "^"), strict=True))
    for ax, score in zip(axes, SCORES, strict=True):
        ax.axhspan(100 * LOW, 100 * HIGH, color="0.92")
        here = [c for c in cells if c["score"] == score]
        for c in here:
            x = GROUPS.index(c["groups"]) + 0.15 * (TRUTHS.index(c["truth"]) - 1.5)
            y = 100 * c["methods"][USED]["coverage"]
            ax.plot(x, y, marks[c["truth"]], color="#0072b2", ms=4, alpha=0.7)
        for name, colour in (("percentile bootstrap", "#d55e00"), ("jackknife t, G − 1", "#e69f00")):
            worst = [
                min(c["methods"][name]["coverage"] for c in here if c["groups"] == n and name in c["methods"])
                for n in GROUPS
                if any(name in c["methods"] for c in here)
            ]
            if worst:
                ax.plot(range(len(GROUPS)), 100 * np.array(worst), "--", color=colour, lw=1.2)
        ax.set_title(score, fontsize="medium")
        ax.set_xticks(range(len(GROUPS)), GROUPS)
        ax.set(xlabel="groups", ylim=(58, 101))
    axes[0].set_ylabel("covers the truth (%)")
    for truth, mark in marks.items():
        axes[0].plot([], [], mark, color="#0072b2", ms=4, label=f"avianspec, truth {truth}")
    axes[0].plot([], [], "--", color="#d55e00", label="percentile bootstrap, worst")
    axes[0].plot([], [], "--", color="#e69f00", label="jackknife t, G − 1, worst")
    fig.legend(frameon=False, fontsize="small", ncols=3, loc="outside lower center")
    fig.savefig(OUT / "coverage.png", dpi=110)


if __name__ == "__main__":
    args = arguments(__doc__, sets=2000, fresh=0)
    matplotlib.use("agg")
    path = OUT / "coverage.json"
    kept = json.loads(path.read_text()) if path.exists() and not args.fresh else {}
    cells = kept.get("cells", []) if kept.get("sets") == args.sets else []
    done = {tuple(c[k] for k in ("score", "groups", "sizes", "truth", "agreement")) for c in cells}
    for situation in itertools.product(SCORES, GROUPS, SIZES, TRUTHS, AGREEMENTS):
        if situation not in done:
            cells.append(one_situation(*situation, args.sets))
            write_json(path, dict(sets=args.sets, cells=cells))
    write("coverage", dict(sets=args.sets, cells=cells), markdown)
    plot(json.loads(path.read_text())["cells"])
