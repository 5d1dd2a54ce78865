"""The recipes of docs/scaling-inference.md, with two workers on this machine.

The three engines are half a gigabyte and one needs Java, so the file is collected only where
SKVAE_TEST_CLUSTERS=1; CONTRIBUTING.md says how to run it.
"""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import skvae
from skvae import VAE

PAGE = Path(__file__).parents[1] / "docs" / "scaling-inference.md"
NAMES = ["a", "b", "c"]
N_ROWS = 20_000  # several of the recipes' batches

# Each process leaves its number, and the file it has skvae from. Predictor is pickled by name, a
# class of the script by value.
PREDICTORS = """
import os
from pathlib import Path

import skvae
from skvae.inference import Predictor


class Recorded(Predictor):
    def __call__(self, batch):
        if len(batch):
            workers = Path(self.path).with_name("workers")
            (workers / str(os.getpid())).write_text(skvae.__file__)
        return super().__call__(batch)


path = "model.safetensors"
predictors = {
    "transform": Recorded(path, "transform", keep=["id"]),
    "score_samples": Recorded(path, "score_samples", keep=["id"], n_samples=5),
}
"""
RECIPES = """
for method, encode in predictors.items():
{recipe}
    os.rename("latent", method)
"""

# What starts and stops an engine, which answers on the loopback interface only.
RAY = """
import ray

ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
try:
    RECIPES
finally:
    ray.shutdown()
"""
DASK = """
from distributed import Client

if __name__ == "__main__":  # workers import this file
    with Client(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None):
        RECIPES
"""
DASK_IN_THREADS = """
import dask

with dask.config.set(scheduler="threads", num_workers=2):
    RECIPES
"""
SPARK = """
from pyspark.sql import SparkSession

builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
builder = builder.config("spark.driver.host", "127.0.0.1")
spark = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
try:
    RECIPES
finally:
    spark.stop()
"""


def run_recipe(heading, around, folder):
    """Run the code under a heading of the page in a process of its own."""
    recipe = re.search(rf"### {heading}\n.*?```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)[1]
    if heading != "Dask":  # a partition is a file; the others put a small table into one task
        recipe = recipe.replace('parquet("rows/")', 'parquet("rows/").repartition(4)', 1)
    loop = RECIPES.format(recipe=textwrap.indent(recipe, "    "))
    indent = re.search(r"^( *)RECIPES$", around, re.M)[1]
    script = PREDICTORS + around.replace("RECIPES", textwrap.indent(loop, indent).strip())
    (folder / "script.py").write_text(script, "utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(skvae.__file__).parents[1]),  # of the workers, too
        "OMP_NUM_THREADS": "1",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "script.py"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("heading", "around", "n_processes"),
    [("Ray Data", RAY, 2), ("Dask", DASK, 2), ("Dask", DASK_IN_THREADS, 1), ("Spark", SPARK, 2)],
    ids=["ray", "dask", "dask-threads", "spark"],
)
def test_a_recipe_gives_what_the_estimator_gives(heading, around, n_processes, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(N_ROWS, 3)), columns=NAMES)
    vae = VAE(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(X[:60])
    vae.save(tmp_path / "model.safetensors")
    # The columns stand in another order than in the fit, and the key is in no order.
    table = X[["c", "a", "b"]].assign(id=rng.permutation(N_ROWS))
    for folder in ("rows", "workers"):
        (tmp_path / folder).mkdir()
    for i in range(4):
        table[i::4].to_parquet(tmp_path / "rows" / f"{i}.parquet", index=False)

    run_recipe(heading, around, tmp_path)

    expected = {
        "transform": vae.transform(X),
        "score_samples": vae.score_samples(X, n_samples=5)[:, None],
    }
    names = {"transform": ["vae0", "vae1"], "score_samples": ["log_likelihood"]}
    for method, values in expected.items():
        result = pd.read_parquet(tmp_path / method)
        assert list(result.columns) == ["id", *names[method]]
        assert len(result) == N_ROWS
        result = result.set_index("id").loc[table["id"]].to_numpy(np.float64)
        assert np.allclose(result, values, rtol=1e-12, atol=1e-14), method
    workers = [worker.read_text() for worker in (tmp_path / "workers").iterdir()]
    assert workers == [skvae.__file__] * n_processes
