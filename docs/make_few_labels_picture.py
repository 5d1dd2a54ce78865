"""Draw samples by class, and test images in every class, of a classifier of digits.

Run: skvae fit mnist --labels 100 -o few.safetensors
     python docs/make_few_labels_picture.py few.safetensors [picture]
Without a picture's name it is that of few-labels.md.
"""

import sys
from pathlib import Path

import numpy as np

import skvae
from skvae import datasets

HERE = Path(__file__).parent
N = 10  # samples of each class, and test images


def rows_of_images(model: skvae.VAEClassifier, X: np.ndarray) -> np.ndarray:
    """Return images, shape (C, N + 1 + C, height, width): samples, a given image, analogies.

    The rows are the classes for the samples and the given images for the rest.
    """
    side = int(X.shape[1] ** 0.5)
    of_class = [model.sample(N, y=c, kind="mean", random_state=0) for c in model.classes_]
    given = X[: len(model.classes_)]
    rows = [np.reshape(part, (-1, side, side)) for part in of_class]
    in_class = [np.reshape(part, (-1, side, side)) for part in model.analogies(given)]
    pictures = given.reshape(-1, side, side)
    return np.stack(
        [
            np.concatenate([own, pictures[i : i + 1], [other[i] for other in in_class]])
            for i, own in enumerate(rows)
        ]
    )


def main(model: str, picture: str | None = None) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    data = datasets.load("mnist")
    X = (data.X_test / data.max_value).astype(np.float32)
    images = rows_of_images(skvae.load(model), X)
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in images])
    out = Path(picture) if picture else HERE / "pictures" / "few_labels.png"
    pyplot.imsave(out, 1 - np.clip(grid, 0, 1), cmap="gray", vmin=0, vmax=1)
    print(f"wrote {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
