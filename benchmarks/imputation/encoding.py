"""Mixed tables as matrices, for peers that know only numbers."""

import numpy as np
import pandas as pd

from benchmarks.imputation.metrics import numeric


def restored(frame, guess):
    """Return `frame` with its holes filled from `guess`, and nothing else changed."""
    return frame.where(frame.notna(), guess)


class Matrix:
    """Standardised numbers and one-hot categories over √2, with NaN for what is missing.

    Means, standard deviations and levels are those of the observed cells given here.

    Parameters
    ----------
    frame : DataFrame
    reduced : bool
        Leave out the last level of each category. The levels of one cell are missing together and
        sum to a constant, so that a regression of one on the others would return its first guess.
    """

    def __init__(self, frame, reduced=False):
        self.reduced = reduced
        names = set(numeric(frame))
        self.columns = []  # name, mean and sd or None, levels or None
        for name, column in frame.items():
            if name in names:
                sd = column.std(ddof=0)
                sd = sd if sd > 0 else 1.0  # also where a column has no value
                self.columns.append((name, (np.nan_to_num(column.mean()), sd), None))
            else:
                levels = column.cat.remove_unused_categories().cat.categories
                self.columns.append((name, None, levels))
        widths = [1 if levels is None else len(levels) - reduced for *_, levels in self.columns]
        self.ends = np.cumsum(widths)
        self.starts = self.ends - widths

    def encode(self, frame):
        """Return a matrix of shape (n, q)."""
        blocks = []
        for name, scale, levels in self.columns:
            column = frame[name]
            if levels is None:
                blocks.append((column.to_numpy(float)[:, None] - scale[0]) / scale[1])
            else:
                codes = levels.get_indexer(column)
                block = (codes[:, None] == np.arange(len(levels) - self.reduced)) / np.sqrt(2)
                blocks.append(np.where(codes[:, None] < 0, np.nan, block))
        return np.concatenate(blocks, 1)

    def decode(self, matrix, frame):
        """Return `frame` with its holes filled from a matrix without holes."""
        filled = {}
        for (name, scale, levels), start, end in zip(
            self.columns, self.starts, self.ends, strict=True
        ):
            if levels is None:
                filled[name] = matrix[:, start] * scale[1] + scale[0]
            else:
                block = matrix[:, start:end]
                if self.reduced:
                    block = np.column_stack([block, np.sqrt(0.5) - block.sum(1)])
                best = block.argmax(1)
                filled[name] = pd.Categorical(levels[best], dtype=frame[name].dtype)
        return restored(frame, pd.DataFrame(filled, index=frame.index))
