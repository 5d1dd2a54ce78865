"""Do Rubin's 95 % intervals after multiple imputation cover the truth?

The complete table is the population. A replicate draws 300 rows with replacement, so that the
population is not used up, hides cells completely at random, imputes 20 times, and pools the column
means, the coefficients of a linear regression and the shares above the population's mean. The row
``complete`` analyses the same rows without holes: what an imputation can reach.
"""

import warnings

import numpy as np
from scipy import stats

import skvae
from benchmarks.imputation import tables
from benchmarks.imputation.kept import FOLDER, Kept
from benchmarks.imputation.masks import hide, holed
from benchmarks.imputation.metrics import numeric
from benchmarks.imputation.peers import Iterative, MiceForest, Ours
from benchmarks.imputation.report import markdown

PATH = FOLDER / "imputation_rubin.jsonl"
KEYS = ("table", "rate", "replicate", "method")
N_ROWS, N_IMPUTATIONS = 300, 20

OUTCOMES = {"concrete": "compressive_strength", "SaratogaHouses": "price", "HMDA": "lvrat"}
RATES = (0.3, 0.5)
METHODS = {
    "complete": None,
    "iterative": Iterative,
    "miceforest": MiceForest,
    "skvae": Ours,
    "skvae_members": lambda seed: Ours(seed, n_members=5),
    "skvae_bootstrap": lambda seed: Ours(seed, n_members=5, bootstrap=True),
}


def regression(frame, outcome):
    """Return the coefficients of least squares with their variances, without the intercept."""
    y = frame[outcome].to_numpy(float)
    X = np.column_stack([np.ones(len(y)), frame.drop(columns=outcome).to_numpy(float)])
    inverse = np.linalg.pinv(X.T @ X)
    beta = inverse @ X.T @ y
    residual = y - X @ beta
    variance = residual @ residual / (len(y) - X.shape[1]) * np.diag(inverse)
    return beta[1:], variance[1:]


def estimates(frame, outcome, centre):
    """Return estimates and their variances, each of shape (k,), and the kinds of the k.

    Parameters
    ----------
    frame : DataFrame
        Numbers alone.
    outcome : str
        The column that is regressed on the others.
    centre : Series
        Means of the population: the shares are those of rows above.
    """
    n = len(frame)
    above = (frame > centre).to_numpy().mean(0)
    beta, of_beta = regression(frame, outcome)
    kinds = ["mean"] * frame.shape[1] + ["coefficient"] * len(beta) + ["share"] * len(above)
    # A share of 0 or 1 would have no variance; half a row more or less keeps it above 0.
    shrunk = (n * above + 0.5) / (n + 1)
    return (
        np.concatenate([frame.mean(), beta, above]),
        np.concatenate([frame.var() / n, of_beta, shrunk * (1 - shrunk) / n]),
        kinds,
    )


def compute(cell):
    """Return how often the intervals of one replicate cover, by kind of estimate."""
    population = tables.whole(cell["table"])
    numbers = numeric(population)
    outcome, centre = OUTCOMES[cell["table"]], population[numbers].mean()
    truth, _, kinds = estimates(population[numbers], outcome, centre)
    replicate = cell["replicate"]
    rows = np.random.default_rng([replicate, 7]).integers(len(population), size=N_ROWS)
    frame = population.iloc[rows].reset_index(drop=True)[numbers]
    if cell["method"] == "complete":
        estimate, variance, _ = estimates(frame, outcome, centre)
        half = stats.t.ppf(0.975, N_ROWS - 1) * np.sqrt(variance)
        low, high = estimate - half, estimate + half
    else:
        holes = holed(frame, hide(frame, "mcar", cell["rate"], replicate))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = METHODS[cell["method"]](replicate).fit(holes)
            each = [
                estimates(one, outcome, centre)[:2] for one in peer.sample(holes, N_IMPUTATIONS)
            ]
        q, u = (np.stack(part) for part in zip(*each, strict=True))  # (M, k)
        low, high = skvae.pool(q, u, dfcom=N_ROWS - 1).interval(0.95)
    inside = (low <= truth) & (truth <= high)
    kinds = np.array(kinds)
    return {
        **cell,
        "covered": {k: int(inside[kinds == k].sum()) for k in np.unique(kinds).tolist()},
        "count": {k: int((kinds == k).sum()) for k in np.unique(kinds).tolist()},
        "relative_width": float(np.median((high - low) / np.sqrt(np.square(truth) + 1e-12))),
    }


def run(replicates, names, methods, path=PATH):
    """Compute the replicates that are missing, and return all records."""
    kept = Kept(path, KEYS)
    for replicate in range(replicates):
        for table in names:
            for rate in RATES:
                for method in methods:
                    cell = {"table": table, "rate": rate, "replicate": replicate, "method": method}
                    if cell in kept:
                        continue
                    try:
                        kept.add({**compute(cell), "status": "done"})
                    except Exception as error:  # a failure is a result
                        kept.add(
                            {
                                **cell,
                                "status": "failed",
                                "reason": f"{type(error).__name__}: {error}"[:500],
                            }
                        )
    return kept.records


def report(records):
    """Return coverage by table, rate and method as Markdown."""
    groups = {}
    for r in records:
        groups.setdefault((r["table"], r["rate"], r["method"]), []).append(r)
    rows = []
    for (table, rate, method), own in sorted(groups.items()):
        done = [r for r in own if r["status"] == "done"]
        shares = [
            f"{sum(r['covered'][k] for r in done) / sum(r['count'][k] for r in done):.3f}"
            if done
            else "–"
            for k in ("mean", "coefficient", "share")
        ]
        rows.append((f"{table}, {rate:.0%}, {method}", *shares, f"{len(done)} of {len(own)}"))
    return markdown(("table", "means", "coefficients", "shares", "replicates"), rows)
