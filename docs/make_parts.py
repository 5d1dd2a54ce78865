"""Write docs/parts.md, the list of all parts and of what goes with what, from the registry.

Run: python docs/make_parts.py (a test checks that the page is up to date).
"""

import inspect
from pathlib import Path

from skvae import likelihoods, models, networks, objectives, posteriors, priors

FAMILIES = {
    "Likelihoods p(x | z)": (likelihoods.Likelihood, "likelihood="),
    "Posteriors q(z | x)": (posteriors.Posterior, "posterior="),
    "Priors p(z)": (priors.Prior, "prior="),
    "Models": (models.GenerativeModel, "model="),
    "Networks": (networks.Network, "network="),
    "Objectives": (objectives.Objective, "objective="),
    "Penalties, added to an objective": (objectives.Penalty, "name"),
}


def specs(family):
    """All classes of a family that this library defines, by name."""
    found = family._registry.items()
    return {n: c for n, c in sorted(found) if c.__module__.startswith("skvae.")}


def page():
    """Return the content of the page."""
    lines = [
        "# The parts",
        "",
        "Every likelihood goes with every posterior, prior, network and objective, except where "
        "the last table says no. A part is chosen by its name, or by its spec where parameters "
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
            summary = inspect.getdoc(kind).splitlines()[0].replace(" [1]_", "").replace("|", "\\|")
            lines.append(f"| {quoted} | `{kind.__name__}({parameters})` | {summary} |")
    columns = specs(posteriors.Posterior)
    lines += ["", "## Which prior goes with which posterior", ""]
    lines += ["| prior | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    notes = {}
    for name, kind in specs(priors.Prior).items():
        cells = []
        for posterior in columns.values():
            reason = kind().objection(posterior())
            if reason:
                notes.setdefault(reason, len(notes) + 1)
            cells.append(f"no ({notes[reason]})" if reason else "yes")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [""] + [f"({i}) {reason[0].upper()}{reason[1:]}." for reason, i in notes.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("parts.md").write_text(page(), "utf-8")
