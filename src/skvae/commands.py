"""What each command of the command line does. Importing this module does not import torch."""

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from skvae import files
from skvae._labelled import ClassOptions
from skvae._options import (
    Data,
    DivideBy,
    ImageOptions,
    Model,
    Options,
    ResultOptions,
    check_target,
    columns_of,
    described,
    load_data,
    print_json,
    print_text,
    with_estimator_flags,
)
from skvae.estimators import VAE, VAEClassifier, VAEImputer, load
from skvae.estimators._base import to_json
from skvae.evaluation import LikelihoodReport
from skvae.exceptions import ParameterError

if TYPE_CHECKING:
    from skvae.distributed import World

__all__ = ["demo", "fit", "info", "predict", "sample", "score", "transform"]


@with_estimator_flags(VAE)
def fit(
    data: Data,
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="File for the model (.safetensors).")
    ],
    divide_by: DivideBy = 1.0,
    resume: Annotated[
        bool, Parameter(negative=(), help="Go on from the state in --checkpoint, if there is one.")
    ] = False,
    images: ImageOptions = ImageOptions(),
    classes: ClassOptions = ClassOptions(),
    options: Options = Options(),
    **parameters: Any,
) -> None:
    """Train a model on DATA and save it; with --labels or --target, one of classes."""
    from skvae.distributed import joined

    with joined() as world:
        if not world.is_main:
            options = replace(options, quiet=True, json=False)
        load = functools.partial(load_data, data, divide_by, options, images)
        _fit(world, load, data, output, resume, classes, options, parameters)


def _fit(
    world: "World",
    load: Callable[[], tuple[files.Table | files.Rows | list[Any], tuple[int, ...] | None]],
    data: str,
    output: Path,
    resume: bool,
    classes: ClassOptions,
    options: Options,
    parameters: dict[str, Any],
) -> None:
    world.from_main(lambda: check_target(output, options.force))
    world.from_main(lambda: _check_resume(parameters.get("checkpoint"), resume))
    X, event_shape = load()
    estimator: type[VAE] = VAEClassifier if classes.asked_for else VAE
    y = None
    if classes.asked_for:
        X, y = classes.separate(data, X, parameters.get("random_state"), options)
        parameters |= classes.parameters()
    if event_shape is not None and parameters.get("channels_last"):
        event_shape = (*event_shape[1:], event_shape[0])  # of one channel, so the cells are alike
    if parameters.get("event_shape") is None:
        parameters["event_shape"] = event_shape
    if not options.quiet:
        parameters["verbose"] = max(1, parameters.get("verbose", 0))
    options.say(f"training on {described(X)}")
    start = time.perf_counter()
    vae = estimator(**parameters).fit(X, y)
    world.from_main(lambda: vae.save(output, overwrite=options.force))
    seconds = time.perf_counter() - start
    last = vae.history_[-1] if len(vae.history_) else {}
    if options.json:
        print_json(
            model=str(output),
            likelihood=vae.likelihood_.to_json(),
            n_epochs=vae.n_iter_,
            seconds=seconds,
            **{k: v for k, v in last.items() if k.endswith("elbo")},
        )
    size = output.stat().st_size / 1e6
    options.say(
        f"saved {output} ({size:.1f} MB, {vae.likelihood_.name} likelihood, {vae.n_iter_} epochs, "
        f"{seconds:.0f} s); next: skvae {'transform' if y is None else 'predict'} {output} {data}",
    )


def transform(
    model: Model,
    data: Data,
    /,
    *,
    divide_by: DivideBy = 1.0,
    images: ImageOptions = ImageOptions(),
    options: ResultOptions = ResultOptions(),
) -> None:
    """Encode DATA: posterior means, one row of latent coordinates per row."""
    check_target(options.output, options.force)
    vae = load(model)
    X, _ = load_data(data, divide_by, options, images)
    names = list(vae.get_feature_names_out())
    if isinstance(X, files.Rows):
        options.deliver_blocks(map(vae.transform, X.split()), len(X), names)
    else:
        options.deliver(vae.transform(X), names)


def predict(
    model: Model,
    data: Data,
    /,
    *,
    probabilities: Annotated[
        bool, Parameter(negative=(), help="Print q(y | x) of each class instead.")
    ] = False,
    divide_by: DivideBy = 1.0,
    images: ImageOptions = ImageOptions(),
    options: ResultOptions = ResultOptions(),
) -> None:
    """Say the class of each row of DATA, or its target."""
    check_target(options.output, options.force)
    estimator = load(model)
    if not hasattr(estimator, "predict"):
        raise ParameterError(
            f"{model} is a {type(estimator).__name__}, which predicts nothing. Train one that "
            "does, for example with: skvae fit DATA --target COLUMN -o MODEL"
        )
    classes = getattr(estimator, "classes_", None)
    if probabilities and classes is None:
        raise ParameterError(f"{model} predicts numbers; --probabilities is for classes.")
    X, _ = load_data(data, divide_by, options, images)
    if probabilities and classes is not None:
        options.deliver(estimator.predict_proba(X), [str(c) for c in classes])
        return
    said = np.asarray(estimator.predict(X))
    said = said[:, None] if said.ndim == 1 else said
    if said.dtype.kind in "biuf":
        names = ["class"] if classes is not None else [f"y{i}" for i in range(said.shape[1])]
        options.deliver(said, names)
    else:
        options.deliver_sequences([str(row[0]) for row in said])


def sample(
    model: Model,
    /,
    *,
    n_samples: Annotated[int, Parameter(name=["--n-samples", "-n"], help="Number of rows.")] = 1,
    kind: Annotated[
        Literal["draw", "mean"],
        Parameter(help="draw: from p(x | z); mean: E[x | z], as pictures usually show."),
    ] = "draw",
    temperature: Annotated[
        float, Parameter(help="Below 1, samples are more typical and less diverse.")
    ] = 1.0,
    of_class: Annotated[
        str | None, Parameter(help="Rows of this class alone, from a model that knows classes.")
    ] = None,
    random_state: Annotated[int | None, Parameter(help="Seed.")] = None,
    options: ResultOptions = ResultOptions(),
) -> None:
    """Draw new rows from a model."""
    check_target(options.output, options.force)
    vae = load(model)
    if isinstance(vae, VAE) and hasattr(vae, "schema_"):
        raise ParameterError(
            f"{model} is of a table with columns that are not numbers, which this command does "
            "not write. In Python: skvae.load(path).sample(n) is a frame with to_csv or write_csv."
        )
    more = {} if of_class is None else {"y": _class_called(of_class, vae, model)}
    rows = vae.sample(
        n_samples, kind=kind, temperature=temperature, random_state=random_state, **more
    )
    if isinstance(rows, list):
        options.deliver_sequences(rows)
    else:
        options.deliver(np.asarray(rows), columns_of(vae))


def _class_called(name: str, estimator: Any, model: Path) -> Any:
    """Return the class of this name."""
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise ParameterError(f"{model} knows no classes, so --of-class makes no sense.")
    found = [c for c in classes.tolist() if str(c) == name]
    if not found:
        raise ParameterError(
            f"--of-class {name}: the classes of {model} are {', '.join(map(str, classes[:20]))}."
        )
    return found[0]


def score(
    model: Model,
    data: Data,
    /,
    *,
    n_samples: Annotated[int, Parameter(help="Importance samples per row.")] = 100,
    divide_by: DivideBy = 1.0,
    images: ImageOptions = ImageOptions(),
    options: ResultOptions = ResultOptions(),
) -> None:
    """Held-out log-likelihood of DATA, in nats per row."""
    check_target(options.output, options.force)
    vae = load(model)
    X, _ = load_data(data, divide_by, options, images)
    report = vae.evaluate(X, n_samples=n_samples)
    if options.output is not None:
        rows = vae.score_samples(X, n_samples=n_samples)[:, None]
        replace(options, json=False).deliver(rows, ["log_likelihood"])
    if options.json:
        print_json(**report.to_dict())
    else:
        print_text(
            f"log-likelihood {report.log_likelihood:.4f} ± {report.standard_error:.4f} nats per "
            f"row ({report.n_rows} rows, {report.n_samples} importance samples)\n"
            f"ELBO {report.elbo:.4f} = reconstruction {report.reconstruction:.4f} "
            f"− KL {report.kl:.4f}\n{_diagnostics(report)}"
        )


def info(
    model: Model,
    /,
    *,
    options: Options = Options(),
) -> None:
    """Describe a model file."""
    loaded = load(model)
    facts = _facts_of_imputer(loaded) if isinstance(loaded, VAEImputer) else _facts(loaded)
    if options.json:
        print_json(**facts)
    else:
        print_text("".join(f"{name}: {value}\n" for name, value in facts.items()))


def demo(
    *,
    dataset: Annotated[
        Literal["mnist", "fashion-mnist", "digits"], Parameter(help="Which images.")
    ] = "mnist",
    network: Annotated[
        Literal["mlp", "conv"], Parameter(help="Bodies of encoder and decoder.")
    ] = "mlp",
    quick: Annotated[
        bool, Parameter(negative=(), help="Fewer rows and epochs: under a minute or so.")
    ] = False,
    out: Annotated[Path, Parameter(help="Folder for report, pictures, figures, models.")] = Path(
        "demo"
    ),
    random_state: Annotated[int, Parameter(help="Seed.")] = 0,
    options: Options = Options(),
) -> None:
    """Train on real images and write a report with pictures and figures."""
    from skvae import demo as demonstration

    start = time.perf_counter()

    def announce(message: str) -> None:
        options.say(f"[{time.perf_counter() - start:4.0f} s] {message}")

    metrics = demonstration.run(
        dataset,
        out,
        network=network,
        quick=quick,
        seed=random_state,
        announce=announce,
        verbose=int(not options.quiet),
    )
    if options.json:
        print_json(**metrics)
    else:
        imputation, few = metrics["imputation"], metrics["few_labels"]
        print_text(
            f"test −log p(x): {metrics['test_nll_nats']:.2f} ± {metrics['test_nll_se']:.2f} nats\n"
            f"missing pixels, RMSE: {imputation['rmse']:.3f} "
            f"(mean image: {imputation['rmse_mean_fill']:.3f})\n"
            f"accuracy with {few['n_labels']} labels: {few['accuracy']:.3f} on VAE features, "
            f"{few['accuracy_pixels']:.3f} on pixels\n"
        )
    options.say(f"done; open {out / 'report.html'}")


# -- helpers ----------------------------------------------------------------------------------


def _diagnostics(report: LikelihoodReport) -> str:
    lines = [f"effective samples: {report.effective_sample_size:.1f} (median over rows)"]
    if report.pareto_k is not None:
        lines[0] += f"; Pareto k {report.pareto_k:.2f}, above 0.7 in {report.pareto_k_above:.0%}"
    lines.append(f"active latent dimensions: {report.active_units}")
    if report.mutual_information is not None:
        lines[1] += (
            f"; I(x; z) {report.mutual_information:.4f}, KL(q(z) || p(z)) "
            f"{report.aggregate_kl:.4f}"
        )
    return "".join(f"{line}\n" for line in lines)


def _facts(vae: VAE) -> dict[str, Any]:
    return {
        "estimator": type(vae).__name__,
        "event_shape": list(vae.event_shape_),
        "n_components": vae.n_components,
        "likelihood": vae.likelihood_.to_json(),
        "n_epochs": vae.n_iter_,
        "history": vae.history_[-1] if len(vae.history_) else {},
        "feature_names": columns_of(vae),
        "parameters": {k: to_json(k, v) for k, v in vae.get_params().items()},
    }


def _facts_of_imputer(imputer: VAEImputer) -> dict[str, Any]:
    columns = imputer.schema_.columns
    params = imputer.get_params()
    del params["kinds"], params["likelihoods"], params["missing_values"]
    return {
        "estimator": type(imputer).__name__,
        "kinds": {str(column.name): column.kind for column in columns},
        "missing_values": imputer.schema_.missing_values,
        "n_epochs": [len(history) for history in imputer.history_],
        "history": [history[-1] for history in imputer.history_],
        "parameters": {k: to_json(k, v) for k, v in params.items()},
    }


def _check_resume(directory: str | None, resume: bool) -> None:
    """Going on from an earlier state must be meant."""
    if resume and directory is None:
        raise ParameterError("--resume needs --checkpoint DIR, where the state of the fit is.")
    if directory is not None and not resume and any(Path(directory).glob("*.safetensors")):
        raise ParameterError(
            f"{directory} holds the state of a fit that was ended early. Pass --resume to go on "
            "from there, or delete it to begin again."
        )
