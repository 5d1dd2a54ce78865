"""The main job on real digits: train, generate, look, fill in, classify from few labels.

What ``skvae demo`` runs. It writes ``report.html``, the pictures, ``metrics.json`` and the fitted
models to a folder.
"""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import skvae
from skvae import datasets, evaluation, few_labels, plot, report
from skvae._atomic import write_atomically
from skvae.data import Binarize
from skvae.exceptions import MissingExtraError
from skvae.likelihoods import Gaussian
from skvae.networks import Conv
from skvae.spec import Spec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Recipe", "run"]

Array = NDArray[Any]
Announce = Callable[[str], None]

N_LABELS_PER_CLASS = 10


@dataclass(frozen=True)
class Recipe:
    """How much work the demonstration does.

    Attributes
    ----------
    n_train, n_test : int or None
        Rows used; None is all.
    epochs, epochs_other : int
        Passes for the main model, and for the three that it is compared with.
    squared_error : str or spec
        Likelihood of the models with squared error.
    hidden : int
        Width of the two hidden layers.
    n_importance : int
        Importance samples for the test likelihood.
    n_impute : int
        Test images whose missing pixels are filled in.
    n_draws : int
        Random draws of the known labels.
    network : str or spec
        Bodies of encoder and decoder.
    """

    n_train: int | None = None
    n_test: int | None = None
    epochs: int = 18
    epochs_other: int = 8
    squared_error: str | Spec = "mse"
    hidden: int = 500
    n_components: int = 20
    n_importance: int = 500
    n_impute: int = 1000
    n_draws: int = 5
    learning_rate: float = 3e-3
    batch_size: int = 256
    network: str | Spec = "mlp"

    def convolutional(self) -> Recipe:
        """Return a version for convolutions, which take ten times as long and learn faster."""
        return replace(
            self, network=Conv(channels=16), epochs=max(10, self.epochs // 4),
            epochs_other=max(4, self.epochs_other // 4), n_importance=100, n_impute=200,
            batch_size=min(128, self.batch_size),
            # With unit variance the posterior collapsed at once, however long the training.
            squared_error=Gaussian(scale="global"),
        )  # fmt: skip

    def quick(self) -> Recipe:
        """Return a version that takes well under a minute; its figures are only a foretaste."""
        return replace(
            self, n_train=6000, n_test=1000, epochs=8, epochs_other=5, hidden=256,
            n_importance=100, n_impute=100, n_draws=2, batch_size=64,
        )  # fmt: skip


RECIPES = {
    "mnist": Recipe(),
    "fashion-mnist": Recipe(),
    # Unit variance is so wide for these small images that the model would ignore its code.
    "digits": Recipe(
        epochs=150,
        epochs_other=100,
        squared_error=Gaussian(scale="global"),
        hidden=256,
        batch_size=32,
        n_impute=360,
    ),
}


def run(
    dataset: str = "mnist",
    out: Path = Path("demo"),
    *,
    network: Literal["mlp", "conv"] = "mlp",
    quick: bool = False,
    seed: int = 0,
    announce: Announce = lambda message: None,
    verbose: int = 1,
) -> dict[str, Any]:
    """Run the demonstration and return what it writes to ``metrics.json``.

    Parameters
    ----------
    dataset : {"mnist", "fashion-mnist", "digits"}
    out : Path
        Folder for the results, made where it is missing.
    network : {"mlp", "conv"}
    quick : bool
        Fewer rows and epochs.
    seed : int
    announce : callable
        Gets a line of text when a step begins.
    verbose : int
        1 shows the training's progress on standard error.
    """
    try:
        import matplotlib as mpl  # fail before training, not after it
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error

    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"font.size": 11, "axes.titlesize": 12}):
        demo = _Demo(dataset, network, out, quick, seed, announce, verbose)
        demo.train()
        demo.likelihood()
        demo.generate()
        demo.look()
        demo.fill_in()
        demo.classify()
        demo.curves()
        return demo.finish(start)


class _Demo:
    """One run: data, models, and what has been found out so far."""

    def __init__(
        self,
        dataset: str,
        network: str,
        out: Path,
        quick: bool,
        seed: int,
        announce: Announce,
        verbose: int,
    ) -> None:
        self.name, self.out, self.seed = dataset, out, seed
        self.quick, self.announce, self.verbose = quick, announce, verbose
        announce(f"loading {dataset}")
        data = datasets.load(dataset, progress=announce)
        recipe = RECIPES[dataset]
        recipe = recipe.convolutional() if network == Conv.name else recipe
        self.recipe = recipe = recipe.quick() if quick and len(data.X_train) > 6000 else recipe
        scale = np.float32(data.max_value)
        self.event_shape = data.event_shape
        self.X, self.y = (data.X_train / scale)[: recipe.n_train], data.y_train[: recipe.n_train]
        self.T, self.yt = (data.X_test / scale)[: recipe.n_test], data.y_test[: recipe.n_test]
        self.models: dict[str, skvae.VAE] = {}
        self.metrics: dict[str, Any] = {
            "dataset": dataset,
            "network": network,
            "quick": quick,
            "seed": seed,
        }
        self.sections: list[report.Section] = []

    # -- steps ------------------------------------------------------------------------------

    def train(self) -> None:
        """Fit a model for density and one for a map, with either loss."""
        wide, flat = self.recipe.n_components, 2
        squared = self.recipe.squared_error
        plans: dict[str, tuple[str | Spec, Binarize, int, int]] = {
            "cross-entropy": ("bernoulli", "stochastic", wide, self.recipe.epochs),
            "squared-error": (squared, None, wide, self.recipe.epochs_other),
            "cross-entropy-2d": ("bernoulli", "stochastic", flat, self.recipe.epochs_other),
            "squared-error-2d": (squared, None, flat, self.recipe.epochs_other),
        }
        self.metrics["models"] = {}
        for name, (likelihood, binarize, n_components, epochs) in plans.items():
            self.announce(f"training {name} ({n_components} latent dimensions, {epochs} epochs)")
            start = time.perf_counter()
            vae = skvae.VAE(
                n_components=n_components,
                likelihood=likelihood,
                binarize=binarize,
                network=self.recipe.network,
                hidden_layer_sizes=(self.recipe.hidden, self.recipe.hidden),
                event_shape=self.event_shape,
                max_epochs=epochs,
                batch_size=self.recipe.batch_size,
                learning_rate=self.recipe.learning_rate,
                validation_fraction=0.05,
                precision="auto",
                random_state=self.seed,
                verbose=self.verbose,
            ).fit(self.X)
            vae.save(self.out / f"{name}.safetensors", overwrite=True)
            self.models[name] = vae
            self.metrics["models"][name] = {
                "n_components": n_components,
                "epochs": vae.n_iter_,
                "seconds": round(time.perf_counter() - start, 1),
                "valid_elbo_nats": float(np.max(vae.history_["valid_elbo"])),
            }

    def likelihood(self) -> None:
        """Importance-weighted log-likelihood of the binarised test set."""
        k = self.recipe.n_importance
        self.announce(f"scoring {len(self.T)} test images with {k} importance samples each")
        result = self.models["cross-entropy"].evaluate(self.T, n_samples=k)
        self.metrics |= {
            "test_nll_nats": -result.log_likelihood,
            "test_nll_se": result.standard_error,
            "test_elbo_nats": result.elbo,
            "test_kl_nats": result.kl,
            "test_mutual_information_nats": result.mutual_information,
            "test_aggregate_kl_nats": result.aggregate_kl,
            "test_active_units": result.active_units,
            "test_pareto_k": result.pareto_k,
            "test_pareto_k_above": result.pareto_k_above,
            "n_importance_samples": k,
            "n_test": result.n_rows,
        }

    def generate(self) -> None:
        """Reconstructions and samples of both losses side by side."""
        self.announce("drawing reconstructions and samples")
        shown = self._one_of_each(self.T, self.yt, 12)
        ce, se = self.models["cross-entropy"], self.models["squared-error"]
        rows = {"test image": self.T[shown]}
        for label, vae in (("cross-entropy", ce), ("squared error", se)):
            rows[label] = vae.inverse_transform(vae.transform(self.T[shown]))
        reconstructions = self._figure(
            "reconstructions",
            (11, 3.2),
            1,
            lambda axes: self._rows(axes[0], rows, "Test images and their reconstructions"),
            "Twelve test images above their reconstructions by two models",
            "Top: images that the models never saw. Below: E[x | z] at the posterior mean, from "
            "the model trained with cross-entropy and from the one trained with squared error.",
        )

        def draw(axes: Sequence[Axes]) -> None:
            for ax, label, vae in zip(
                axes, ("cross-entropy", "squared error"), (ce, se), strict=True
            ):
                display = plot.SamplesDisplay.from_estimator(
                    vae, n_samples=64, random_state=self.seed, ax=ax
                )
                display.ax_.set_title(f"Samples, {label}")

        samples = self._figure(
            "samples",
            (11, 5.8),
            2,
            draw,
            "Two grids of 64 generated images, one for each loss",
            "Nothing here was in the data: z is drawn from N(0, I) and the picture is E[x | z].",
        )
        self.sections.append(
            report.Section(
                "Generate",
                "Both models are the same network; only p(x | z) differs. Cross-entropy treats a "
                "pixel as the probability of ink. Squared error is a Gaussian with one standard "
                "deviation for all pixels, "
                + (
                    "here 1, far wider than the pixels vary, so the model weighs the prior more, "
                    "uses fewer latent dimensions, and blurs."
                    if self.recipe.squared_error == "mse"
                    else "here one that is learned."
                ),
                (reconstructions, samples),
            )
        )

    def look(self) -> None:
        """Two-dimensional maps of the test set, and what the decoder makes of the plane."""
        self.announce("drawing the latent maps")
        models = {
            "cross-entropy": self.models["cross-entropy-2d"],
            "squared error": self.models["squared-error-2d"],
        }

        def draw_maps(axes: Sequence[Axes]) -> None:
            for ax, (label, vae) in zip(axes, models.items(), strict=True):
                display = plot.LatentMapDisplay.from_estimator(vae, self.T, self.yt, ax=ax)
                display.ax_.set_title(f"Latent map, {label}")

        def draw_grids(axes: Sequence[Axes]) -> None:
            for ax, (label, vae) in zip(axes, models.items(), strict=True):
                display = plot.ManifoldDisplay.from_estimator(vae, n=18, ax=ax)
                display.ax_.set_title(f"Decoded grid, {label}")

        maps = self._figure(
            "latent_maps",
            (13, 6.4),
            2,
            draw_maps,
            "Two scatter plots of the test set in two latent dimensions, coloured by class",
            f"Each point is one of {len(self.T):,} test images at its posterior mean; the colour "
            "is its label, which no model has seen. Numbers stand at the median of their class.",
        )
        grids = self._figure(
            "latent_grids",
            (13, 6.8),
            2,
            draw_grids,
            "Two grids of images decoded from a regular grid over the latent plane",
            "The same planes, decoded on a grid of equally spaced quantiles of N(0, 1): "
            "neighbouring points give similar images.",
        )
        self.sections.append(
            report.Section(
                "Look",
                "With two latent dimensions the model is a map that also decodes: every new image "
                "has a place, and every place has an image.",
                (maps, grids),
            )
        )

    def fill_in(self) -> None:
        """Hide pixels, fill them in, and compare with the truth."""
        vae, n = self.models["cross-entropy"], self.recipe.n_impute
        self.announce(f"filling in the missing pixels of {min(n, len(self.T))} test images")
        truth = self.T[:n]
        rng = np.random.default_rng(self.seed)
        at_random = rng.random(truth.shape) < 0.5
        hidden = np.zeros((len(truth), *self.event_shape), dtype=bool)
        hidden[..., self.event_shape[-2] // 2 :, :] = True
        lower = hidden.reshape(truth.shape)
        mean_fill = np.broadcast_to(self.X.mean(0), truth.shape)
        result: dict[str, Any] = {"n_images": len(truth)}
        shown = self._one_of_each(truth, self.yt[: len(truth)], 10)
        figures = []
        for suffix, title, missing in (
            ("", "half of the pixels missing at random", at_random),
            ("_lower_half", "lower half missing", lower),
        ):
            holes = np.where(missing, np.float32(np.nan), truth)
            filled = vae.impute(holes)
            result[f"rmse{suffix}"] = evaluation.imputation_rmse(truth, filled, missing)
            result[f"rmse_mean_fill{suffix}"] = evaluation.imputation_rmse(
                truth, mean_fill, missing
            )
            draws = vae.impute(holes[shown], n_draws=3, kind="mean", random_state=self.seed)
            rows: dict[str, Array] = {
                "seen": holes[shown],
                "truth": truth[shown],
                "conditional mean": filled[shown],
                **{f"draw {i + 1}": draw for i, draw in enumerate(draws)},
            }
            figures.append(self._imputation_figure(f"imputation{suffix}", title, rows))
        self.metrics["imputation"] = result
        self.sections.append(
            report.Section(
                "Fill in",
                "The model was trained on complete images only. Hidden pixels are a mask on the "
                "likelihood: latent codes are weighted by how well they explain the pixels that "
                "are seen, and decoded. Where much is missing, several completions are possible, "
                "and the draws differ.",
                tuple(figures),
            )
        )

    def classify(self) -> None:
        """Few labels: spreading on VAE features against spreading on pixels."""
        classes = len(np.unique(self.y))
        n_labels = classes * N_LABELS_PER_CLASS
        self.announce(f"spreading {n_labels} labels over {len(self.X)} images")
        vae = self.models["cross-entropy"]
        spaces = {
            "accuracy": (vae.transform(self.X), vae.transform(self.T)),
            "accuracy_pixels": (self.X, self.T),
        }
        found: dict[str, Any] = {"n_labels": n_labels, "n_draws": self.recipe.n_draws}
        for name, (train, test) in spaces.items():
            graph = few_labels.NeighborGraph.build(train, test)
            accuracies = [
                few_labels.spread(graph, self.y, self.yt, N_LABELS_PER_CLASS, self.seed + i)
                for i in range(self.recipe.n_draws)
            ]
            found[name] = float(np.mean(accuracies))
            found[f"{name}_sd"] = float(np.std(accuracies, ddof=1))
        self.metrics["few_labels"] = found
        self.sections.append(
            report.Section(
                "Learn from few labels",
                f"{n_labels} training images keep their label, {N_LABELS_PER_CLASS} per class; "
                f"the other {len(self.X) - n_labels:,} are used without. Labels spread along a "
                "graph of nearest neighbours (scikit-learn's LabelSpreading). The only difference "
                "between the rows is where neighbours are looked for.",
                table=report.Table(
                    f"Accuracy on {len(self.T):,} test images, mean ± standard deviation over "
                    f"{self.recipe.n_draws} draws of the labels",
                    ("neighbours in", "accuracy"),
                    tuple(
                        (label, f"{found[key]:.3f} ± {found[key + '_sd']:.3f}")
                        for label, key in (
                            ("VAE features (posterior means)", "accuracy"),
                            ("raw pixels", "accuracy_pixels"),
                        )
                    ),
                ),
            )
        )

    def curves(self) -> None:
        """Training curves of all models."""
        self.announce("drawing the training curves")

        def draw(axes: Sequence[Axes]) -> None:
            for ax, (name, vae) in zip(axes, self.models.items(), strict=True):
                plot.TrainingCurveDisplay.from_estimator(vae, ax=ax)
                ax.set_title(name)

        curves = self._figure(
            "training_curves",
            (14, 3.8),
            4,
            draw,
            "Training and held-out ELBO of the four models over the epochs",
            "Higher is better. The scales differ: squared error is the log-density of grey "
            "values, cross-entropy the log-probability of binary images. Held-out rows are "
            "5 % of the training images; the weights of the best epoch are kept.",
        )
        self.sections.append(
            report.Section(
                "Training",
                "The evidence lower bound, epoch by epoch.",
                (curves,),
                self._table(),
            )
        )

    def finish(self, start: float) -> dict[str, Any]:
        """Write metrics and report."""
        import torch

        self.metrics["seconds"] = round(time.perf_counter() - start, 1)
        self.metrics["versions"] = {
            "scikit-vae": skvae.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        rows = (
            "A quick run on part of the data; the figures are a foretaste. " if self.quick else ""
        )
        page = report.Report(
            f"What a variational autoencoder does: {self.name}",
            f"{rows}Four models were trained on {len(self.X):,} images and looked at on "
            f"{len(self.T):,} others, in {self.metrics['seconds']:.0f} seconds.",
            f"scikit-vae {skvae.__version__}, torch {torch.__version__}, seed {self.seed}. "
            "Likelihoods are in nats per image, on images binarised at random once with fixed "
            "noise, and are lower bounds in expectation.",
            self.sections,
        )
        self._write("report.html", page.to_html().encode())
        self._write("metrics.json", (json.dumps(self.metrics, indent=2) + "\n").encode())
        return self.metrics

    # -- helpers ----------------------------------------------------------------------------

    def _table(self) -> report.Table:
        m, i, f = self.metrics, self.metrics["imputation"], self.metrics["few_labels"]
        return report.Table(
            "The figures of this run",
            ("", "value"),
            (
                (
                    f"Test −log p(x), nats per image ({m['n_importance_samples']} samples)",
                    f"{m['test_nll_nats']:.2f} ± {m['test_nll_se']:.2f}",
                ),
                ("Test ELBO, nats per image", f"{m['test_elbo_nats']:.2f}"),
                ("Images whose weights have Pareto-k̂ > 0.7", f"{m['test_pareto_k_above']:.0%}"),
                (
                    "Active latent dimensions",
                    f"{m['test_active_units']} of {self.recipe.n_components}",
                ),
                (
                    "I(x; z), nats (1,000 images or fewer)",
                    f"{m['test_mutual_information_nats']:.2f}",
                ),
                ("KL(q(z) ‖ p(z)), nats", f"{m['test_aggregate_kl_nats']:.2f}"),
                ("RMSE of missing pixels, half at random", f"{i['rmse']:.3f}"),
                ("… when filled with the mean image", f"{i['rmse_mean_fill']:.3f}"),
                ("RMSE of missing pixels, lower half", f"{i['rmse_lower_half']:.3f}"),
                ("… when filled with the mean image", f"{i['rmse_mean_fill_lower_half']:.3f}"),
                (f"Accuracy with {f['n_labels']} labels, VAE features", f"{f['accuracy']:.3f}"),
                (f"Accuracy with {f['n_labels']} labels, pixels", f"{f['accuracy_pixels']:.3f}"),
            ),
        )

    def _one_of_each(self, X: Array, y: Array, n: int) -> Array:
        """Indices of n rows that cycle through the classes, the first of each class first."""
        order = [np.flatnonzero(y == c) for c in np.unique(y)]
        picked = [rows[i] for i in range(max(map(len, order))) for rows in order if i < len(rows)]
        return np.array(picked[:n])

    def _rows(self, ax: Axes, rows: dict[str, Array], title: str) -> None:
        painter = plot.painter_of(self.models["cross-entropy"], self.T)
        plot.ReconstructionDisplay(rows, painter).plot(ax=ax, title=title)

    def _imputation_figure(self, name: str, title: str, rows: dict[str, Array]) -> report.Figure:
        return self._figure(
            name,
            (10, 6.2),
            1,
            lambda axes: self._rows(axes[0], rows, f"Missing data: {title}"),
            f"Images with {title}, the truth, and what the model fills in",
            "Blue: what the model did not see. The conditional mean averages over all completions "
            "that fit, by importance weights; each draw is one of them.",
        )

    def _figure(
        self,
        name: str,
        size: tuple[float, float],
        n_axes: int,
        draw: Callable[[Sequence[Axes]], None],
        alt: str,
        caption: str,
    ) -> report.Figure:
        """Draw on a figure of its own, without pyplot's global state, and write the PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, dpi=110, layout="constrained")
        axes = figure.subplots(1, n_axes, squeeze=False)[0]
        draw(list(axes))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        self._write(f"{name}.png", buffer.getvalue())
        return report.Figure(buffer.getvalue(), alt, caption)

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self.out / name, content, overwrite=True)
