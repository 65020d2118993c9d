"""Every part of an optimizer goes on from a checkpoint as if never interrupted."""

import os
import shutil

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from hybrid_jax.checkpoints.reader import CheckpointReader
from hybrid_jax.engine.fit import fit
from tests.experiments import small


# Its programs take minutes to compile.
@pytest.mark.skipif(
    os.environ.get("HYBRID_JAX_KINDS") != "all",
    reason="only with HYBRID_JAX_KINDS=all",
)
def test_muon_with_sam_and_lookahead_resumes_bit_by_bit(tmp_path):
    """Slow weights and the moments of matrices alone are in a checkpoint."""
    config = small(
        optim__name="muon",
        optim__sam_rho=0.05,
        optim__lookahead_steps=4,
        optim__ema_decay=0.0,
        optim__schedule="constant",
        loss__name="sigmoid",
        freeze=("stem",),
        data__validation=0,
        train__epochs=2,
        train__eval_every=1,
    )
    workdir = tmp_path / "run"
    fit(config, workdir=workdir)
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    saved = CheckpointReader(workdir / "checkpoints")
    whole = flatten_dict(saved.load_variables(steps[-1]), sep="/")
    params = flatten_dict(saved.load_state(steps[-1])["params"], sep="/")
    # What is evaluated are the slow weights, which differ from the others.
    path = "stage1_block1/expand/kernel"
    assert not np.array_equal(whole[f"params/{path}"], params[path])
    shutil.rmtree(workdir / "checkpoints" / str(steps[-1]))
    fit(config, workdir=workdir)
    again = flatten_dict(
        CheckpointReader(workdir / "checkpoints").load_variables(steps[-1]), sep="/"
    )
    for path in whole:
        np.testing.assert_array_equal(again[path], whole[path], err_msg=path)
