"""Wide residual networks agree with a PyTorch network of the paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybrid_jax.models import create_model

torch = pytest.importorskip("torch")
CLASSES = 10


class TorchBlock(torch.nn.Module):
    """Compute BN-ReLU-conv twice, beside the input or its projection."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        conv, norm = torch.nn.Conv2d, torch.nn.BatchNorm2d
        self.pre_norm, self.norm = norm(inputs), norm(outputs)
        self.conv1 = conv(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = conv(outputs, outputs, 3, padding=1, bias=False)
        changes = inputs != outputs or stride != 1
        self.shortcut = (
            conv(inputs, outputs, 1, stride, bias=False) if changes else None
        )

    def forward(self, x):
        activated = self.pre_norm(x).relu()
        shortcut = self.shortcut(activated) if self.shortcut else x
        return shortcut + self.conv2(self.norm(self.conv1(activated)).relu())


class TorchWideResNet(torch.nn.Module):
    """Stack three groups of blocks, as in table 1 of the paper."""

    def __init__(self, depth: int, width: int):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.blocks, inputs = torch.nn.ModuleDict(), 16
        for group, outputs in enumerate((16 * width, 32 * width, 64 * width), 1):
            for number in range(1, 1 + (depth - 4) // 6):
                stride = 2 if group > 1 and number == 1 else 1
                name = f"stage{group}_block{number}"
                self.blocks[name] = TorchBlock(inputs, outputs, stride)
                inputs = outputs
        self.norm = torch.nn.BatchNorm2d(inputs)
        self.classifier = torch.nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks.values():
            x = block(x)
        return self.classifier(self.norm(x).relu().mean((2, 3)))


def random_variables(model, image_size: int) -> dict:
    """Return variables none of which is at its initial 0 or 1."""
    images = jnp.zeros((1, image_size, image_size, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(1)

    def draw(path, x):
        leaf = path[-1].key
        if leaf == "kernel":
            fan_in = np.prod(x.shape[:-1])
            return rng.normal(0, fan_in**-0.5, x.shape).astype(np.float32)
        least = 1.05 if leaf in ("scale", "var") else 0.05
        return rng.uniform(least, least + 0.1, x.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def carry(variables: dict, network: TorchWideResNet) -> None:
    """Copy every array into the PyTorch network, and check that none is left over."""
    modules = {"stem/conv1": network.stem, "head/norm": network.norm}
    modules["head/classifier"] = network.classifier
    for name, block in network.blocks.items():
        for inside, module in block.named_children():
            modules[f"{name}/{inside}"] = module
    names = {"scale": "weight", "kernel": "weight", "bias": "bias"}
    names |= {"mean": "running_mean", "var": "running_var"}
    carried = set()
    for collection in variables.values():
        for path, x in jax.tree_util.tree_leaves_with_path(collection):
            *module, leaf = [entry.key for entry in path]
            target = getattr(modules["/".join(module)], names[leaf])
            x = np.asarray(x)
            if leaf == "kernel" and target.ndim == 4 and x.ndim == 2:
                x = x[None, None]  # a 1x1 convolution
            x = x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
            assert target.shape == x.shape, path
            with torch.no_grad():
                target.copy_(torch.tensor(x))
            carried.add(("/".join(module), names[leaf]))
    expected = {n for n, _ in network.named_parameters()} | {
        n for n, _ in network.named_buffers() if "num_batches" not in n
    }
    assert len(carried) == len(expected)


# Of width 1, the first group has no projection; the others have one in both.
@pytest.mark.parametrize(
    ("width", "image_size", "train"), [(1, 32, True), (4, 40, False)]
)
def test_logits_and_gradients_are_those_of_pytorch(width, image_size, train):
    model = create_model(f"wrn_16_{width}", CLASSES, image_size)
    variables = random_variables(model, image_size)
    network = TorchWideResNet(16, width)
    carry(variables, network)
    network.train(train)
    # Of other images, one in four has an activation so close to 0 that rounding decides
    # whether ReLU passes its gradient on.
    rng = np.random.default_rng(3)
    images = rng.normal(size=(4, image_size, image_size, 3)).astype(np.float32)
    weights = rng.normal(size=(4, CLASSES)).astype(np.float32)

    def loss(images):
        result = model.apply(
            variables, images, train=train, mutable=["batch_stats"] if train else False
        )
        logits = result[0] if train else result
        return (logits * weights).sum(), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(images)
    theirs = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    their_logits = network(theirs)
    (their_logits * torch.tensor(weights)).sum().backward()
    for ours, oracle in (
        (logits, their_logits.detach().numpy()),
        (gradient, theirs.grad.numpy().transpose(0, 2, 3, 1)),
    ):
        np.testing.assert_allclose(ours, oracle, atol=2e-4 * np.abs(oracle).max())


@pytest.mark.parametrize(
    ("name", "published"),
    # Table 5 and 6 of the paper, in millions.
    [("wrn_16_8", 11.0), ("wrn_28_10", 36.5), ("wrn_40_4", 8.9)],
)
def test_parameters_are_those_of_pytorch_and_as_many_as_published(name, published):
    model = create_model(name, CLASSES, 32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    count = sum(x.size for x in jax.tree.leaves(shapes["params"]))
    with torch.device("meta"):
        network = TorchWideResNet(*map(int, name.split("_")[1:]))
    assert count == sum(x.numel() for x in network.parameters())
    assert round(count / 1e6, 1) == published


@pytest.mark.parametrize(
    ("name", "firsts", "depths", "maps"),
    [
        ("wrn_16_4_wwt", ["W64", "W128", "T256"], [2, 2, 2], [32, 32, 16, 8]),
        (
            "wrn_16_4_wwwt",
            ["W64", "W128", "W256", "T256"],
            [2, 2, 2, 1],
            [32, 32, 16, 8, 4],
        ),
    ],
)
def test_a_hybrid_attends_in_its_last_stage_and_keeps_the_widths(
    name, firsts, depths, maps
):
    model = create_model(name, CLASSES, 32)
    assert [f"{b.letter}{b.width}" for b in model.plan if b.number == 1] == firsts
    assert [b.number for b in model.plan if b.last] == depths
    assert model.map_sizes == [(size, size) for size in maps]


def test_a_hybrid_of_four_stages_halves_larger_images_earlier():
    for size in (32, 64, 128):
        last = create_model("wrn_16_2_wwwt", CLASSES, size).map_sizes[-1]
        assert last == (4, 4), size
