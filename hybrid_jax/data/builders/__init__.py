"""TFDS builders that need no TensorFlow, one file a data set.

TFDS's builders of these sets call TensorFlow to encode images. These builders yield
encoded images, which TFDS writes as they are. They are not registered with TFDS, whose
builders of the same names stay reachable.
"""

# Module and class by name; a module is imported when its data set is loaded.
BUILDERS = {
    "cifar10": ("hybrid_jax.data.builders.cifar", "Cifar10"),
    "cifar100": ("hybrid_jax.data.builders.cifar", "Cifar100"),
    "digits": ("hybrid_jax.data.builders.digits", "Digits"),
    "fashion_mnist": ("hybrid_jax.data.builders.fashion_mnist", "FashionMnist"),
    "galaxy10": ("hybrid_jax.data.builders.galaxy10", "Galaxy10"),
    "tiny_imagenet": ("hybrid_jax.data.builders.tiny_imagenet", "TinyImagenet"),
}
