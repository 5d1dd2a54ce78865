"""One self-contained HTML page: no scripts, no network, all text escaped."""

import base64
from dataclasses import dataclass, field
from importlib import resources

__all__ = ["Figure", "Report", "Section", "Table"]


@dataclass(frozen=True)
class Figure:
    """A picture with what it shows (``alt``, for those who cannot see it) and what it means."""

    png: bytes
    alt: str
    caption: str

    @property
    def base64(self) -> str:
        """The picture as text for a data URL."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Table:
    """A table of formatted cells; the first cell of each row names it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, perhaps a table, and figures."""

    title: str
    text: str
    figures: tuple[Figure, ...] = ()
    table: Table | None = None


@dataclass
class Report:
    """A page made of sections."""

    title: str
    summary: str
    footer: str
    sections: list[Section] = field(default_factory=list)

    def to_html(self) -> str:
        """Return the page."""
        from jinja2 import Environment, StrictUndefined

        source = resources.files("skvae").joinpath("templates/report.html").read_text("utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined)
        return environment.from_string(source).render(report=self)
