"""TFDS builders that need no TensorFlow, one file a data set.

TFDS's own builders of these sets call TensorFlow to encode images. These yield images
that are encoded already, which TFDS writes as they are. They are not registered with
TFDS, whose own builders of the same name stay reachable.
"""

# name: (module, class); imported when asked for, so that naming them costs nothing.
BUILDERS = {
    "cifar10": ("hybrid_jax.data.builders.cifar", "Cifar10"),
    "cifar100": ("hybrid_jax.data.builders.cifar", "Cifar100"),
    "digits": ("hybrid_jax.data.builders.digits", "Digits"),
    "fashion_mnist": ("hybrid_jax.data.builders.fashion_mnist", "FashionMnist"),
    "galaxy10": ("hybrid_jax.data.builders.galaxy10", "Galaxy10"),
    "tiny_imagenet": ("hybrid_jax.data.builders.tiny_imagenet", "TinyImagenet"),
}
