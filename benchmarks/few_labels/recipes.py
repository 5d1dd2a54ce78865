"""What is compared: the settings of the models, what is run, and published figures."""

from skvae.augmentation import Affine, Erase
from skvae.models import ADGM, SDGM
from skvae.networks import Conv
from skvae.objectives import ELBO, Consistency

# -- images ----------------------------------------------------------------------------------

# The VAE of all images, which all draws of the labels share.
BASE = {
    "n_components": 20,
    "likelihood": "bernoulli",
    "hidden_layer_sizes": (500, 500),
    "network": "mlp",
    "event_shape": (1, 28, 28),
    "max_epochs": 20,
    "early_stopping": False,
    "random_state": 0,
}

SHARED = {k: v for k, v in BASE.items() if k not in ("early_stopping", "random_state")}
CONSISTENT = {
    "pseudo_labels": 0.7,
    "alpha": 10.0,
    "objective": ELBO() + Consistency(10.0, weak=(), strong=(Affine(shift=0.0), Erase())),
}
JUDGED = {
    "n_components": 100,
    "hidden_layer_sizes": (500,),
    "max_epochs": 40,
    "pseudo_labels": 0.7,
    "alpha": 100.0,
    "objective": ELBO() + Consistency(100.0, weak=(), strong=(Affine(shift=0.0), Erase())),
}
JUDGE = Conv.of((1, 28, 28)).replace(channels=16)  # as that of "auto"
MODELS = {
    "m1": {},
    "m2": {"n_components": 50, "hidden_layer_sizes": (500,), "max_epochs": 24} | CONSISTENT,
    "m1+m2": {"pseudo_labels": 1.0, "alpha": 1.0, "max_epochs": 30},
    "ladder": {"n_components": 50, "max_epochs": 24} | CONSISTENT,
    "adgm": {"model": ADGM(judge=JUDGE)} | JUDGED,
    "sdgm": {"model": SDGM(judge=JUDGE)} | JUDGED,
    "auto": {"max_epochs": 30},
}

# -- tables ----------------------------------------------------------------------------------

TABLE_SHARED = {"n_components": 10, "hidden_layer_sizes": (128, 128)}
TABLE_MODELS = {"m1": {}, "m2": {}, "auto": {}}

# -- what is run -----------------------------------------------------------------------------

# The images of a foretaste have another size.
QUICK = {"max_epochs": 2, "hidden_layer_sizes": (64,), "event_shape": None, "objective": "elbo"}

PIXELS = ("1nn", "rbf", "boosting", "spreading")
PEERS = (
    "logistic",
    "boosting",
    "self_training_logistic",
    "self_training_boosting",
    "label_spreading",
)
TABLES = ("credit_data", "adult")

# Data: labels, as a number or as a share of the rows, and the rows of the table.
PLAN = {
    "mnist": {
        100: (*PIXELS, *MODELS),
        1000: ("1nn", "rbf", "spreading", "m1+m2", "auto"),  # boosting takes minutes
    },
    "fashion-mnist": {640: ("1nn", "rbf", "spreading", "m1", "m1+m2", "auto")},
    **{table: dict.fromkeys((0.01, 0.05), (*PEERS, *TABLE_MODELS)) for table in TABLES},
}
DRAWS = {"mnist": 3, "fashion-mnist": 3, **dict.fromkeys(TABLES, 5)}

# -- published accuracies --------------------------------------------------------------------

_KINGMA = "Kingma et al., 2014, Table 1"
_MAALOE = "Maaløe et al., 2016, as quoted in the code of Dai et al., 2017"
PUBLISHED = {
    ("mnist", 100): {
        "m1": f"0.882 ± 0.003 (M1 and TSVM, {_KINGMA})",
        "m2": f"0.880 ± 0.017 ({_KINGMA}); 0.932 ± 0.006 (tutorial of Pyro)",
        "m1+m2": f"0.967 ± 0.001 ({_KINGMA}); 0.972 (jonemeth's code, one seed)",
        "adgm": f"0.990 ± 0.000 ({_MAALOE})",
        "sdgm": f"0.987 ± 0.001 ({_MAALOE})",
    },
    ("mnist", 1000): {
        "m1": f"0.958 ± 0.001 (M1 and TSVM, {_KINGMA})",
        "m2": f"0.964 ± 0.006 ({_KINGMA}); 0.949 (tutorial of Pyro)",
        "m1+m2": f"0.9760 ± 0.0002 ({_KINGMA}); 0.976 (jonemeth's code, one seed)",
    },
}
# Of methods that are not run here.
ELSEWHERE = {
    ("mnist", 100): (
        f"supervised network 0.742, convolutional 0.770, TSVM 0.832, AtlasRBF 0.919 ± 0.010 "
        f"({_KINGMA}); CatGAN 0.981 ± 0.001, VAT 0.986, ladder network 0.989 ± 0.004, "
        "feature-matching GAN 0.991 ± 0.001 (as quoted in the code of Dai et al., 2017)"
    ),
    ("mnist", 1000): (
        f"supervised network 0.893, convolutional 0.936, TSVM 0.946, AtlasRBF 0.963 ± 0.001 "
        f"({_KINGMA})"
    ),
    ("fashion-mnist", 640): (
        "convolutional network 0.835 without and 0.880 with augmentation and the unlabelled "
        "images (parametric UMAP, Sainburg et al., 2021)"
    ),
}
