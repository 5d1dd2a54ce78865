"""The torch side of an estimator: arrays in, arrays out; it knows nothing of scikit-learn."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skvae import aggregate, augmentation, distributed, rng
from skvae.annealing import Annealing, Start, annealed_weights, bidirectional
from skvae.augmented import Augmented
from skvae.callbacks import Watcher
from skvae.checkpoint import Checkpoint, fingerprint_of
from skvae.conditional import searched_posterior
from skvae.data import Binarize, Source, Transform, binarize_by_content, check_support
from skvae.distributions import draw
from skvae.encoded import Encoded
from skvae.estimators._choices import choose_model, choose_prior
from skvae.estimators._fit_rows import FitRows
from skvae.estimators._neighborhood import Company, company_of
from skvae.estimators._sequence_rows import (
    transform_of,
    trimmed,
)
from skvae.evidence import Batch
from skvae.exceptions import ModelFileError, ParameterError
from skvae.guides import Guided, Until
from skvae.importance import (
    LATENTS_PER_CALL,
    Marginal,
    log_marginal,
)
from skvae.likelihoods import Bernoulli, Likelihood
from skvae.missingness import Missingness
from skvae.models import (
    M1M2,
    Assembly,
    ClassifyingModule,
    ClassModule,
    LatentModule,
    StackedModule,
    TargetModule,
)
from skvae.networks import Network
from skvae.objectives import Objective
from skvae.posteriors import Posterior
from skvae.priors import Prior
from skvae.training import Plan, Trainer, fit_prior

__all__ = ["Core"]

Array = NDArray[Any]
Kind = Literal["draw", "mean"]

FirstLabels = tuple[FitRows, FitRows | None, int]

ROWS_PER_CALL = 1024


@dataclasses.dataclass
class Core:
    """A model with everything needed to go from data to latent space and back.

    Arrays are flat, ``(n, D)``, in data units; D is the size of one event.
    """

    spec: Assembly
    module: LatentModule
    transform: Transform
    binarize: Binarize
    seed: int
    device: torch.device
    trainer: Trainer | None = None

    @classmethod
    def create(
        cls,
        rows: FitRows,
        *,
        event_shape: tuple[int, ...],
        n_components: int,
        likelihood: Likelihood,
        posterior: Posterior,
        prior: object,
        network: Network,
        model: object,
        binarize: Binarize,
        device: torch.device,
        missingness: Missingness | None = None,
    ) -> Self:
        """Build an untrained model that starts from the mean and spread of the rows."""
        spec = Assembly(
            event_shape=event_shape,
            n_components=n_components,
            likelihood=likelihood,
            posterior=posterior,
            prior=choose_prior(prior, posterior),
            network=network,
            model=choose_model(model, network),
            missingness=missingness,
        )
        if binarize is not None and not isinstance(likelihood, Bernoulli):
            raise ParameterError(
                f"binarize={binarize!r} makes binary targets, which likelihood="
                f"{likelihood.name!r} does not describe. Use likelihood='bernoulli'."
            )
        rows.check(likelihood)
        transform = rows.transform(likelihood.standardize)
        natural = np.asarray(likelihood.standardize) == "none"  # (), or (D,)
        center = np.zeros_like(transform.shift)
        if natural.any():
            center = np.where(natural, rows.mean(), center)
        module = spec.build(rows.seed)
        module.calibrate(
            torch.from_numpy(center).float().view(event_shape),
            torch.from_numpy(transform.unit).view(event_shape),  # float64: may be beyond float32
            transform.encode(rows.some(ROWS_PER_CALL), torch.float32).view(-1, *event_shape),
        )
        module.eval()
        return cls(spec, module, transform, binarize, rows.seed, device)

    def train(
        self,
        rows: FitRows,
        valid: FitRows | None,
        objective: Objective,
        plan: Plan,
        watchers: Sequence[Watcher],
        epochs_done: int,
        checkpoint: str | Path | None = None,
        world: distributed.World | None = None,
        augment: object = None,
        guide: FitRows | None = None,
        upper: bool = False,
        first: FirstLabels | None = None,
    ) -> None:
        """Train on rows; a second call goes on where the first ended.

        ``guide`` are rows whose labels are known, beside each batch of all. With ``upper``, only
        what stands on top of a VAE is trained. ``first`` are the same rows with other labels,
        those to stand beside them, and for how many epochs these count.
        """
        if reason := objective.objection(self.spec.posterior):
            raise ParameterError(
                f"objective={objective.name!r} does not go with "
                f"posterior={self.spec.posterior.name!r}: {reason}."
            )
        if self.trainer is None or self.trainer.objective != objective:
            whole = self.module.to(self.device)
            trained = self._stack.upper if upper else whole
            self.trainer = Trainer(trained, objective, self.device, self.seed)
        self.trainer.at.epochs_done = epochs_done
        changes = augmentation.resolve(augment)
        augmentation.check_images(changes, self.spec.event_shape)
        company = company_of(rows, self.transform, objective.beside, self.spec.latent.width)
        train = self._guided(rows, guide, plan.seed, changes, company)
        if first is not None:
            guessed, beside, n_epochs = first
            before = self._guided(guessed, beside, plan.seed, changes, company)
            train = Until(before, train, n_epochs)
        held_out = None
        if valid is not None:
            seed = rng.seed_from(plan.seed, rng.Stream.VALIDATION)
            held_out = self._source(valid, seed)
        if upper:
            train = Encoded(train, self._stack)
            held_out = None if held_out is None else Encoded(held_out, self._stack)
        place = None
        if checkpoint is not None:
            description = {
                "model": self.spec.to_json(),
                "objective": objective.to_json(),
                "binarize": self.binarize,
                "augment": [one.to_json() for one in changes],
                "plan": {**dataclasses.asdict(plan), "dtype": str(plan.dtype)},
                "early_stopping": valid is not None,
                "epochs done before": epochs_done,
            }
            tensors = [*train.identity(), *self.module.state_dict().values()]
            place = Checkpoint(checkpoint, fingerprint_of(description, *tensors))
        self.trainer.fit(train, held_out, plan, watchers, place, world)

    def _guided(
        self,
        rows: FitRows,
        guide: FitRows | None,
        seed: int,
        changes: tuple[augmentation.Augmentation, ...],
        company: Company,
    ) -> Source:
        train = company(self._source(rows, seed))
        train = Augmented(train, changes) if changes else train
        if guide is None:
            return train
        known = self._source(guide, rng.seed_from(seed, rng.Stream.GUIDE))
        return Guided(train, Augmented(known, changes) if changes else known)

    def copy(self) -> Self:
        """Return the same model with weights of its own."""
        return dataclasses.replace(self, module=copy.deepcopy(self.module), trainer=None)

    @property
    def _stack(self) -> StackedModule:
        assert isinstance(self.module, StackedModule)
        return self.module

    def stacked(self, model: M1M2, rows: FitRows) -> Self:
        """Return a copy with a model of the latent vectors on top, which is untrained."""
        spec = self.spec.replace(model=model, prior=choose_prior("auto", self.spec.posterior))
        module = spec.build(self.seed)
        own = module.state_dict()
        of_upper = [k for k in own if k.startswith("upper.")]
        below = {k: v for k, v in self.module.state_dict().items() if not k.startswith("prior.")}
        module.load_state_dict({k: own[k] for k in of_upper} | below)
        module.eval()
        assert isinstance(module, StackedModule)
        core = dataclasses.replace(self, spec=spec, module=module.to(self.device), trainer=None)
        some = rows.some(ROWS_PER_CALL).astype(np.float32)
        module.calibrate_upper(core._batch(some, torch.float32))
        return core

    def _source(self, rows: FitRows, seed: int) -> Source:
        rows.check(self.spec.likelihood)
        return rows.source(
            self.transform, self.spec.event_shape, binarize=self.binarize, seed=seed
        )

    def fit_prior(self, rows: FitRows, prior: Prior, n_steps: int) -> None:
        """Replace the prior by one that is fitted to the aggregate posterior of the rows."""
        spec = self.spec.replace(prior=prior)  # refuses what does not go together
        with rng.isolated(self.seed, rng.Stream.PRIOR):
            module = prior.build(spec.model.prior_latent(spec), spec.event_shape)
        source = self._source(rows, self.seed)
        module.calibrate(next(source.batches(0, ROWS_PER_CALL, torch.device("cpu"))).x)
        fit_prior(self.module, module, source, n_steps=n_steps, seed=self.seed)
        self.spec = spec
        self.module.spec = self.spec
        self.module.put_prior(module.eval())
        self.trainer = None  # it holds the parameters of the old prior

    def posterior_mean(self, X: Array) -> Array:
        """E[z | x], shape (n, d)."""
        likelihood = self.spec.likelihood
        return self._per_block(X, lambda m, batch: m.infer(trimmed(batch, likelihood)).mean)

    def kl_per_dimension(self, X: Array) -> Array | None:
        """Mean KL(q(z | x) || p(z)) of each latent variable, shape (d,), where it splits."""
        module, dtype = self._module_for(X)
        total: Array | float = 0.0
        with torch.no_grad():
            for rows in _blocks(X):
                batch = self._batch(rows, dtype)
                noise = rng.PerRow(batch.x, self.seed)
                kl = module.evidence(trimmed(batch, self.spec.likelihood), 1, noise).kl
                if kl is None or kl.shape[1] != self.spec.latent.n_components:
                    return None
                total = total + kl.double().sum(0).cpu().numpy()
        return np.asarray(total) / len(X)

    def decode(self, Z: Array, y: int | None = None) -> Array:
        """E[x | z] in data units, shape (n, D); with ``y``, of z without a class and of that."""
        module, dtype = self._module_for(Z)

        def part(rows: Array) -> Array:
            z = torch.from_numpy(rows).to(self.device, dtype)
            z = z if y is None else self._classes(module).of_class(z, y)
            return self._to_data(module.generate(z).mean)

        with torch.no_grad():
            return _collected(map(part, _blocks(Z)), len(Z), self.n_features, Z.dtype)

    def log_class(self, X: Array) -> Array:
        """Log q(y | x), shape (n, C), of a model with classes."""
        classes = self._classes
        return self._per_block(X, lambda m, batch: classes(m).log_class(batch), self.n_classes)

    @staticmethod
    def _classes(module: LatentModule) -> ClassifyingModule:
        assert isinstance(module, ClassifyingModule)
        return module

    def judge(self) -> list[torch.nn.Parameter]:
        """Weights of q(y | x) of M2."""
        parts = (self._m2(self.module).judge, self._m2(self.module).verdict)
        return [p for part in parts for p in part.parameters()]

    @staticmethod
    def _m2(module: LatentModule) -> ClassModule:
        assert isinstance(module, ClassModule)
        return module

    def judged_features(self, X: Array) -> Array:
        """What the body of q(y | x) of M2 makes of rows, shape (n, width)."""
        m2 = self._m2
        return self._per_block(
            X, lambda m, batch: m2(m).judged(batch), m2(self.module).judge.out_features
        )

    def put_verdict(self, weight: Array, bias: Array) -> None:
        """Make q(y | x) of M2 that of a logistic regression of `judged_features`.

        Of two classes, a row of ``weight`` (n_classes, width) may stand for the difference.
        """
        if len(weight) == 1:
            weight, bias = (np.concatenate([-half, half]) for half in (weight / 2, bias / 2))
        verdict = self._m2(self.module).verdict
        with torch.no_grad():
            verdict.weight.copy_(torch.from_numpy(weight))
            verdict.bias.copy_(torch.from_numpy(bias))

    def shown(self, X: Array) -> Array:
        """Return rows as networks see them, shape (n, width); 0 for hidden cells."""

        def part(module: LatentModule, batch: Batch) -> Tensor:
            x, mask = module.likelihood.represent(batch.x, batch.mask)
            return (x if mask is None else torch.where(mask, x, 0.0)).flatten(1)

        width = int(np.prod(self.module.likelihood.input_shape))
        return self._per_block(X, part, width)

    def class_prior(self) -> list[float]:
        """p(y) of a model with classes."""
        return torch.softmax(self._classes(self.module).class_logits.detach(), -1).tolist()

    @property
    def n_classes(self) -> int:
        """Number of classes of a model that has some, or 0."""
        return self.module.n_classes if isinstance(self.module, ClassifyingModule) else 0

    @property
    def width(self) -> int:
        """Size of z without what else a flat z holds."""
        module = self.module
        return module.d if isinstance(module, ClassifyingModule) else self.spec.latent.width

    def target(self, X: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of q(y | x), (n, n_targets) each; the model has targets."""

        def law(module: LatentModule, batch: Batch) -> Tensor:
            q = self._targets(module).target(batch)
            return torch.cat([q.mean, q.stddev], -1)

        mean, scale = np.split(self._per_block(X, law, 2 * self.n_targets), 2, axis=1)
        return mean, scale

    @staticmethod
    def _targets(module: LatentModule) -> TargetModule:
        assert isinstance(module, TargetModule)
        return module

    @property
    def n_targets(self) -> int:
        """Number of targets of a model that has some."""
        return self._targets(self.module).n_targets

    def sample(
        self,
        n: int,
        *,
        seed: int,
        kind: Kind,
        dtype: np.dtype[Any],
        y: int | None = None,
        targets: Array | None = None,
        temperature: float = 1.0,
    ) -> Array:
        """Draw from p(z) and then p(x | z), or E[x | z] with ``kind="mean"``; shape (n, D).

        ``temperature`` multiplies the Gaussian noise that z is made of.
        Of a model with classes, ``y`` is the number of that of all rows; of one with targets,
        ``targets`` are those of each row, (n, n_targets).
        """

        def part(i: int, start: int) -> Array:
            noise = rng.Sequential(rng.generator(seed, rng.Stream.SAMPLE, i))
            size = (min(ROWS_PER_CALL, n - start),)
            warmth = noise if temperature == 1 else rng.Tempered(noise, temperature)
            z = draw(self.module.prior_distribution(), size, warmth)
            if y is not None:
                classes = self._classes(self.module)
                z = classes.of_class(z[..., : classes.d], y, noise)
            if targets is not None:
                own = torch.from_numpy(targets[start : start + ROWS_PER_CALL])
                z = self._targets(self.module).of_target(z, own)
            p = self.module.generate(z)
            return self._to_data(p.mean if kind == "mean" else draw(p, (), noise))

        with torch.no_grad():
            parts = itertools.starmap(part, enumerate(range(0, n, ROWS_PER_CALL)))
            return _collected(parts, n, self.n_features, dtype)

    def scored(self, X: Array) -> Array:
        """Return the rows that are scored: grey ones are binarised where that is set."""
        return binarize_by_content(X) if self.binarize == "stochastic" else X

    def marginal(self, X: Array, n_samples: int) -> dict[str, NDArray[np.float64]]:
        """Importance-sampled log p(x), ELBO, KL and effective sample size per row, in nats."""
        self._need_density("log p(x)")
        X = self.scored(X)
        module, dtype = self._module_for(X)
        batches = (self._batch(rows, dtype) for rows in _blocks(X, 256))
        blocks = [
            log_marginal(
                module,
                trimmed(batch, self.spec.likelihood),
                n_samples,
                rng.PerRow(batch.x, self.seed),  # of the whole row: its company must not matter
            )
            for batch in batches
        ]
        return {
            field.name: torch.cat([getattr(block, field.name) for block in blocks]).numpy()
            for field in dataclasses.fields(Marginal)
        }

    def annealed(self, X: Array, n_samples: int, n_temperatures: int) -> NDArray[np.float64]:
        """Annealed log p(x) per row, in nats."""
        self._need_density("log p(x)")
        settings = Annealing(n_temperatures, n_samples)
        X = self.scored(X)
        module, dtype = self._module_for(X)
        out = []
        for rows in _blocks(X, max(1, LATENTS_PER_CALL // n_samples)):
            batch = self._batch(rows, dtype)
            noise = rng.PerRow(batch.x, self.seed)
            batch = trimmed(batch, self.spec.likelihood)
            weights = annealed_weights(module, batch, settings, noise)
            out.append(weights.log_likelihood.numpy())
        return np.concatenate(out)

    def bidirectional(
        self, n: int, n_samples: int, n_temperatures: int, start: Start, *, seed: int
    ) -> tuple[NDArray[np.float64], ...]:
        """Lower and upper bounds on log p(x) of n rows from the model, and acceptance rates."""
        settings = Annealing(n_temperatures, n_samples, start)
        size = max(1, LATENTS_PER_CALL // n_samples)
        blocks = []
        for i, begin in enumerate(range(0, n, size)):
            noise = rng.Sequential(rng.generator(seed, rng.Stream.SCORE, i, device=self.device))
            blocks.append(bidirectional(self.module, min(size, n - begin), settings, noise))
        return tuple(
            torch.cat([getattr(block, name) for block in blocks]).numpy()
            for name in ("lower", "upper", "acceptance")
        )

    def kl_split(self, X: Array) -> aggregate.KLSplit | None:
        """Mutual information and KL(q(z) || p(z)), from rows spread evenly over X."""
        if not self.spec.posterior.has_density:
            return None
        module, dtype = self._module_for(X)
        with torch.no_grad():
            limit = aggregate.row_limit(module.infer(self._batch(X[:1], dtype)))
        some = np.linspace(0, len(X) - 1, min(len(X), limit)).round().astype(int)
        batch = self._batch(X[some], dtype)
        return aggregate.split_kl(module, batch, rng.PerRow(batch.x, self.seed))

    def impute(
        self, X: Array, n_draws: int | None, *, n_samples: int, seed: int, kind: Kind
    ) -> Array:
        """Fill NaN: the conditional mean, shape (n, D), or draws, shape (n_draws, n, D)."""
        self._need_density("p(missing | observed)")
        module, _ = self._module_for(X)
        filled = np.repeat(X[None], n_draws or 1, 0)  # (m, n, D)
        todo = np.flatnonzero(np.isnan(X).any(1))
        for i, rows in enumerate(_blocks(todo, 256)):
            key = rng.seed_from(seed, i) if n_draws else seed
            values = self._impute_block(module, X[rows], n_draws, n_samples, key, kind)
            missing = np.isnan(X[rows])  # (b, D)
            for j, draw_ in enumerate(values):
                filled[j, rows] = np.where(missing, draw_, X[rows])
        return filled if n_draws else filled[0]

    def _impute_block(
        self,
        module: LatentModule,
        X: Array,
        n_draws: int | None,
        n_samples: int,
        seed: int,
        kind: Kind,
    ) -> Array:
        batch = self.batch_of(X, module)
        with torch.no_grad():
            # The mean of a row must not depend on its company; draws of equal rows must differ.
            noise: rng.Noise = (
                rng.PerRow(batch.x, seed)
                if n_draws is None
                else rng.Sequential(rng.generator(seed, rng.Stream.IMPUTE))
            )
            posterior = searched_posterior(module, batch, n_samples, noise)
            if n_draws is None:
                return self._to_data(posterior.mean(module, batch))[None]
            z, values = posterior.draws(n_draws, noise)
            if values is None:
                p = module.hidden(batch, z)
                values = p.mean if kind == "mean" else draw(p, (), noise)
        return self._to_data(values).reshape(n_draws, len(X), -1)

    def _need_density(self, what: str) -> None:
        if not self.spec.posterior.has_density:
            raise ParameterError(
                f"posterior={self.spec.posterior.name!r} has no density, so {what} cannot be "
                "estimated. Fit with posterior='diagonal' for that."
            )

    @property
    def n_features(self) -> int:
        """Size D of one event."""
        return len(self.transform.shift)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return JSON values and tensors from which `from_state` rebuilds this object."""
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors["transform.shift"] = torch.from_numpy(self.transform.shift)
        tensors["transform.unit"] = torch.from_numpy(self.transform.unit)
        manifest = {"model": self.spec.to_json(), "binarize": self.binarize, "seed": self.seed}
        return manifest, tensors

    @classmethod
    def from_state(
        cls,
        manifest: dict[str, Any],
        tensors: dict[str, Tensor],
        device: torch.device,
        network: Network | None = None,
    ) -> Self:
        """Rebuild what `state` described; of modules of the user's it cannot.

        Raises
        ------
        ModelFileError
            Names, shapes or types of the tensors are not those of the model.
        """
        spec = Assembly.from_json(manifest["model"])
        spec = spec.replace(network=spec.network.restored(network))
        if manifest["binarize"] not in (None, "threshold", "stochastic"):
            raise ModelFileError(f"binarize={manifest['binarize']!r:.80} is not known.")
        if type(manifest["seed"]) is not int or manifest["seed"] < 0:
            raise ModelFileError(f"seed={manifest['seed']!r:.80} is no seed.")
        _check_sizes(manifest["model"], sum(t.numel() for t in tensors.values()))
        with torch.device("meta"):  # shapes are compared before any memory is taken
            expected = spec.build(0).state_dict()
        prefix = "module."
        weights = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        if weights.keys() != expected.keys():
            odd = sorted(weights.keys() ^ expected.keys())
            raise ModelFileError(f"weights missing or unknown: {odd!r:.200}.")
        for name, tensor in expected.items():
            if weights[name].shape != tensor.shape or weights[name].dtype != tensor.dtype:
                raise ModelFileError(
                    f"weight {name!r} is {weights[name].dtype} "
                    f"{tuple(weights[name].shape)!s:.80}, the model needs {tensor.dtype} "
                    f"{tuple(tensor.shape)!s:.80}."
                )
        size = (int(np.prod(spec.event_shape)),)
        shift, unit = tensors["transform.shift"], tensors["transform.unit"]
        fits = all(t.shape == size and t.dtype == torch.float64 for t in (shift, unit))
        if not fits or not bool((unit > 0).all()):
            raise ModelFileError("the scaling of the data does not fit the model.")
        module = spec.build(0)
        module.load_state_dict(weights)
        module.to(device).eval()
        transform = transform_of(spec, shift.numpy(), unit.numpy())
        return cls(spec, module, transform, manifest["binarize"], manifest["seed"], device)

    def _per_block(
        self,
        X: Array,
        function: Callable[[LatentModule, Batch], Tensor],
        width: int | None = None,
    ) -> Array:
        module, dtype = self._module_for(X)
        with torch.no_grad():
            parts = (
                function(module, self._batch(rows, dtype)).cpu().numpy() for rows in _blocks(X)
            )
            return _collected(parts, len(X), width or self.spec.latent.width, X.dtype)

    def _module_for(self, X: Array) -> tuple[LatentModule, torch.dtype]:
        """Compute in the precision of the data: float64 rows get a float64 copy of the model."""
        if X.dtype != np.float64 or self.device.type == "mps":
            return self.module, torch.float32
        return copy.deepcopy(self.module).double(), torch.float64

    def _batch(self, X: Array, dtype: torch.dtype) -> Batch:
        check_support(X, self.spec.likelihood.support, self.spec.likelihood.name)
        hidden = np.isnan(X)
        X = np.where(hidden, self.transform.shift, X).astype(X.dtype)  # hidden: any number
        if self.binarize == "threshold":
            X = (X > 0.5).astype(X.dtype)
        x = self.transform.encode(X, dtype).view(-1, *self.spec.event_shape).to(self.device)
        return Batch(x, self._mask(hidden) if hidden.any() else None)

    def _mask(self, hidden: NDArray[np.bool_]) -> Tensor:
        observed = torch.from_numpy(~hidden).view(-1, *self.spec.event_shape)
        return observed.to(self.device)

    def batch_of(self, X: Array, module: LatentModule) -> Batch:
        """Return rows (n, D) with holes as a batch in the precision of the module."""
        batch = self._batch(X, next(module.parameters()).dtype)
        return dataclasses.replace(batch, mask=self._mask(np.isnan(X)))

    def _to_data(self, x: Tensor) -> NDArray[np.float64]:
        return self.transform.decode(x.detach().flatten(-len(self.spec.event_shape)))


def _check_sizes(description: Any, n_elements: int) -> None:
    """Refuse a description with a width that the tensors of its file cannot have."""
    if isinstance(description, dict | list):
        values = description.values() if isinstance(description, dict) else description
        for value in values:
            _check_sizes(value, n_elements)
    elif isinstance(description, int) and description > n_elements:
        raise ModelFileError(f"a size of {description} does not fit {n_elements} numbers in all.")


def _blocks(X: Array, size: int = ROWS_PER_CALL) -> Iterator[Array]:
    for start in range(0, len(X), size):
        yield X[start : start + size]


def _collected(parts: Iterable[Array], n: int, width: int, dtype: np.dtype[Any]) -> Array:
    """Put parts of n rows below each other; none is kept beside the result."""
    out = np.empty((n, width), dtype)
    start = 0
    for part in parts:
        out[start : start + len(part)] = part
        start += len(part)
    return out
