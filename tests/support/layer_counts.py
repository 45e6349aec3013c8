"""Parameters counted by hand, and those of the networks that PlaNet and Dreamer V1 share."""


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def layers(*sizes: tuple[int, int]) -> int:
    """Weights and biases of dense layers."""
    return sum(i * o + o for i, o in sizes)


def convolutions(kernels, channels) -> int:
    """Weights and biases of square convolutions, plain or transposed."""
    pairs = zip(channels[:-1], channels[1:], strict=True)
    return sum(k * k * i * o + o for k, (i, o) in zip(kernels, pairs, strict=True))


ENCODER = convolutions((4, 4, 4, 4), (3, 32, 64, 128, 256))
DECODER = layers((230, 1024)) + convolutions((5, 5, 6, 6), (1024, 128, 64, 32, 3))
DENSE = layers((30 + 6, 200), (200, 200), (200, 60), (200 + 1024, 200), (200, 60))
