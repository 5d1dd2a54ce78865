"""Run the code of pictures.md, and save each picture under the name that stands below it.

Run: python docs/make_pictures.py [folder]
Without a folder the pictures are those of the page.
"""

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
BLOCK = re.compile(
    r"```python\n(?P<code>.*?)```\s*(?:!\[.*?\]\(pictures/(?P<name>.*?)\))?", re.DOTALL
)


def draw(page: str, out: Path) -> list[str]:
    """Run the code of a page and return the names of the pictures."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names: dict[str, object] = {}
    written = []
    for block in BLOCK.finditer(page):
        exec(compile(block["code"], "pictures.md", "exec"), names)
        if block["name"]:
            figure = names["display"].figure_
            figure.savefig(
                out / block["name"], dpi=80, bbox_inches="tight", metadata={"Software": None}
            )
            pyplot.close("all")
            written.append(block["name"])
    return written


if __name__ == "__main__":
    out = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE / "pictures"
    os.chdir(HERE.parent)  # data are named from there
    for name in draw((HERE / "pictures.md").read_text("utf-8"), out):
        print(f"wrote {out / name}")
