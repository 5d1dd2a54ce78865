"""Classifiers of scikit-learn: what the models have to beat. None is tuned."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC


def boosting(seed):
    """Return boosted trees; at the default of 20 rows a leaf, 32 labels would not be split."""
    return HistGradientBoostingClassifier(min_samples_leaf=5, random_state=seed)


def logistic(seed):
    """Return a logistic regression."""
    return LogisticRegression(max_iter=1000)


# Fitted to the labelled rows alone.
SUPERVISED = {
    "1nn": lambda seed: KNeighborsClassifier(1),
    "rbf": lambda seed: SVC(C=10, kernel="rbf", gamma="scale", random_state=seed),
    "boosting": boosting,
    "logistic": logistic,
}
# Fitted to all rows, −1 for labels that are unknown.
SEMI_SUPERVISED = {
    "self_training_logistic": lambda seed: SelfTrainingClassifier(logistic(seed)),
    "self_training_boosting": lambda seed: SelfTrainingClassifier(boosting(seed)),
    "label_spreading": lambda seed: LabelSpreading(kernel="knn", n_neighbors=7),
}


def probabilities(model, T, known):
    """Return p(y | x), shape (m, n_classes).

    Label spreading has none for rows that no label reaches; they get the shares of the `known`
    labels.
    """
    with np.errstate(invalid="ignore"):
        p = model.predict_proba(T).astype(float)
    reached = np.isfinite(p).all(1) & (p.sum(1) > 0)
    p[~reached] = np.bincount(known, minlength=p.shape[1]) / len(known)
    return p / p.sum(1, keepdims=True)  # float32 sums to one less exactly than log_loss asks for
