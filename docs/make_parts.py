"""Write docs/parts.md, the list of all parts and of what goes with what, from the registry.

Run: python docs/make_parts.py (a test checks that the page is up to date).
"""

import inspect
import re
from pathlib import Path

from skvae import likelihoods, models, networks, objectives, posteriors, priors
from skvae.exceptions import ParameterError

FAMILIES = {
    "Likelihoods p(x | z)": (likelihoods.Likelihood, "likelihood="),
    "Posteriors q(z | x)": (posteriors.Posterior, "posterior="),
    "Priors p(z)": (priors.Prior, "prior="),
    "Models": (models.GenerativeModel, "model="),
    "Networks": (networks.Network, "network="),
    "Objectives": (objectives.Objective, "objective="),
    "Penalties, added to an objective": (objectives.Penalty, "name"),
}

EVENT, NETWORK = (1, 9, 9), networks.Conv()  # what all models can take


def specs(family):
    """All classes of a family that this library defines, by name."""
    found = family._registry.items()
    return {n: c for n, c in sorted(found) if c.__module__.startswith("skvae.")}


def objection(row, posterior):
    """Why a part cannot stand with a posterior, in the words of the error."""
    return row.objection(posterior)


def refusal(model, posterior):
    """Why a model cannot be built with a posterior."""
    space = {"real": "standard", "sphere": "sphere", "one_hot": "categorical"}[posterior.space]
    prior = priors.Prior.resolve(space)
    try:
        models.Assembly(EVENT, 4, likelihoods.Gaussian(), posterior, prior, NETWORK, model)
    except ParameterError as error:
        return re.split(r": (?=the)", str(error))[1].split(". Use")[0]
    return None


def grid(title, corner, rows, columns, reason_for):
    """Return a table of yes and no, with the reasons below it."""
    lines = ["", f"## {title}", "", f"| {corner} | " + " | ".join(columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    notes = {}
    for name, row in rows.items():
        cells = []
        for posterior in columns.values():
            reason = reason_for(row, posterior)
            if reason:
                notes.setdefault(reason, len(notes) + 1)
            cells.append(f"no ({notes[reason]})" if reason else "yes")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return (
        lines + [""] + [f"({i}) {reason[0].upper()}{reason[1:]}." for reason, i in notes.items()]
    )


def page():
    """Return the content of the page."""
    lines = [
        "# The parts",
        "",
        "Every likelihood goes with every posterior, prior, network and objective, except where "
        "the last tables say no. A part is chosen by its name, or by its spec where parameters "
        'differ from the defaults: `VAE(prior="vamp")`, '
        "`VAE(prior=priors.Vamp(n_components=100))`. "
        "This page is made from the registry by `docs/make_parts.py`.",
    ]
    for title, (family, argument) in FAMILIES.items():
        lines += ["", f"## {title}", "", f"| `{argument}` | spec | |", "|---|---|---|"]
        for name, kind in specs(family).items():
            aliases = [a for a, (target, _) in sorted(family._aliases.items()) if target == name]
            quoted = ", ".join(f'`"{n}"`' for n in [name, *aliases])
            fields = inspect.signature(kind).parameters.values()
            parameters = ", ".join(f"{p.name}={p.default!r}" for p in fields)
            summary = inspect.getdoc(kind).splitlines()[0]
            summary = re.sub(r" \[\d\]_", "", summary).replace("|", "\\|")
            lines.append(f"| {quoted} | `{kind.__name__}({parameters})` | {summary} |")
    kinds = specs(posteriors.Posterior)
    columns = {name: kind() for name, kind in kinds.items()}
    rows = {name: kind() for name, kind in specs(priors.Prior).items()}
    lines += grid("Which prior goes with which posterior", "prior", rows, columns, objection)
    rows = {name: kind() for name, kind in specs(models.GenerativeModel).items()}
    lines += grid("Which model goes with which posterior", "model", rows, columns, refusal)
    rows = {
        name: kind() for name, kind in specs(objectives.Objective).items() if name != "penalized"
    }
    rows |= {"iwae, gradient='vimco'": objectives.IWAE(gradient="vimco")}
    rows |= {f"+ {name}": kind() for name, kind in specs(objectives.Penalty).items()}
    rows |= {"+ dip, kind='ii'": objectives.DIP(kind="ii")}
    title = "Which objective and which penalty goes with which posterior"
    lines += grid(title, "objective", dict(sorted(rows.items())), columns, objection)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("parts.md").write_text(page(), "utf-8")
