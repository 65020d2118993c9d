"""Derive a run from another one: the same weights and images in another network."""

from hybrid_jax.errors import UserError
from hybrid_jax.runs.run import Run
from hybrid_jax.training.step import Network


def with_network(run: Run, network: Network) -> Run:
    """Return a run with the weights, images and results of another one.

    Args:
      run: the other run.
      network: takes the weights of its network.
    """
    derived = Run(
        config=run.config,
        network=network,
        classes=run.classes,
        form=run.form,
        checkpoint=run.checkpoint,
        variables=lambda: run.variables,
        splits=lambda: run.splits,
        results=run.results,
        history=run.history,
        workdir=run.workdir,
        notes=run.notes,
    )
    derived.manifest_sums = run.manifest_sums  # not those of what is there by now
    return derived


def with_views(run: Run) -> Run:
    """Return a run whose logits are averaged over the views of each image.

    The views are those that the run's `augment.symmetry` makes, such as flips.
    Results and history stay those of single images.

    Raises:
      UserError: the run was trained without a symmetry.
    """
    views = run.config.augment.symmetry
    if views == "none":
        raise UserError(
            "views are averaged over the symmetry of training, and this run has none "
            "(augment.symmetry=none): leave --views out"
        )
    return with_network(run, run.network.replace(views=views))
