"""Spec: an immutable, comparable description of a choice, with a registry and JSON both ways.

Every plug-in (likelihood, posterior, prior, network, objective, model) is a frozen dataclass that
inherits from its family, itself a subclass of `Spec`. Defining the class registers it::

    @dataclass(frozen=True)
    class Bernoulli(Likelihood, name="bernoulli", aliases={"bce": {}}):
        ...

A name in a model file is looked up in this registry and nowhere else: a file cannot name code.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from skvae.exceptions import ModelFileError, ParameterError, did_you_mean

__all__ = ["Spec", "at_least", "check_finite", "check_sizes"]


class Spec:
    """Base of all specs. Subclass a family, not this class."""

    family: ClassVar[str]
    name: ClassVar[str]
    _registry: ClassVar[dict[str, type["Spec"]]]
    _aliases: ClassVar[dict[str, tuple[str, dict[str, Any]]]]
    _families: ClassVar[dict[str, type["Spec"]]] = {}

    def __init_subclass__(
        cls,
        *,
        family: str | None = None,
        name: str | None = None,
        aliases: dict[str, dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if family is not None:
            cls.family, cls._registry, cls._aliases = family, {}, {}
            Spec._families[family] = cls
        if name is not None:
            cls.name = name
            cls._registry[name] = cls
            for alias, fields in (aliases or {}).items():
                cls._aliases[alias] = (name, fields)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All names that `resolve` understands in this family, aliases included."""
        return tuple(sorted({*cls._registry, *cls._aliases}))

    @classmethod
    def resolve(cls, value: object, *, argument: str | None = None) -> Self:
        """Turn a name, an alias or a spec of this family into a spec.

        Raises
        ------
        ParameterError
            When the value is neither; the message lists the names and the closest match.
        """
        if isinstance(value, cls):
            return value
        argument = argument or cls.family
        if isinstance(value, str):
            name, fields = cls._aliases.get(value, (value, {}))
            if name in cls._registry:
                return cls._registry[name](**fields)  # type: ignore[return-value]
            raise ParameterError(
                f"{argument}={value!r} is not known.{did_you_mean(value, cls.names())} "
                f"Known: {', '.join(map(repr, cls.names()))}, or a spec from skvae."
            )
        raise ParameterError(
            f"{argument} must be a name ({', '.join(map(repr, cls.names()))}) or a "
            f"{cls.__name__} spec; received {value!r} of type {type(value).__name__}."
        )

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` turns back into an equal spec."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {f.name: _plain(getattr(self, f.name)) for f in fields}
        return {"family": self.family, "name": self.name, **values}

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Build the spec that `to_json` described.

        Raises
        ------
        ModelFileError
            For an unknown family, name or field, or a value that the spec refuses.
        """
        if not isinstance(data, dict) or not {"family", "name"} <= data.keys():
            raise ModelFileError(f"expected a {cls.__name__} description, found {data!r:.80}.")
        family = Spec._families.get(data["family"])
        spec = family._registry.get(data["name"]) if family else None
        if spec is None:
            raise ModelFileError(
                f"{data['family']!r:.80} {data['name']!r:.80} is not known here. If it is your "
                "own class, import its module before loading; a file cannot name code."
            )
        if not issubclass(spec, cls):
            raise ModelFileError(
                f"expected a {cls.__name__}, found {data['family']} {data['name']!r}."
            )
        values = {k: _unplain(v) for k, v in data.items() if k not in ("family", "name")}
        known = {f.name: f for f in dataclasses.fields(spec)}  # type: ignore[arg-type]
        if odd := sorted(values.keys() - known.keys()):
            raise ModelFileError(f"{spec.__name__}: unknown fields {odd}.")
        # A file from before a field was there means its default.
        needed = {name for name, f in known.items() if f.default is dataclasses.MISSING}
        if odd := sorted(needed - values.keys()):
            raise ModelFileError(f"{spec.__name__}: missing fields {odd}.")
        try:
            return spec(**values)
        except (ParameterError, TypeError) as error:
            raise ModelFileError(f"{spec.__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def _unplain(value: Any) -> Any:
    if isinstance(value, dict) and "family" in value:
        return Spec.from_json(value)
    if isinstance(value, list):
        return tuple(_unplain(v) for v in value)
    return value


def at_least(value: object, minimum: int, where: str) -> None:
    """Check an integer field of a spec.

    Raises
    ------
    ParameterError
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ParameterError(f"{where} must be an integer >= {minimum}; received {value!r}.")


def check_sizes(sizes: object, where: str) -> tuple[int, ...]:
    """Check a field of layer sizes and return it as a tuple.

    Raises
    ------
    ParameterError
    """
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise ParameterError(
            f"{where} must be a tuple of integers; received {sizes!r}. "
            "One layer of 100 units is written (100,)."
        )
    if not all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sizes):
        raise ParameterError(f"{where} must hold integers >= 1; received {sizes!r}.")
    return tuple(sizes)


def check_finite(spec: Spec, *names: str) -> None:
    """Check fields of a spec that are weights: finite numbers that are not negative.

    Raises
    ------
    ParameterError
    """
    for name in names:
        value = getattr(spec, name)
        if not 0 <= value < math.inf:
            raise ParameterError(
                f"{type(spec).__name__}: {name} must be finite and >= 0; received {value!r}."
            )
