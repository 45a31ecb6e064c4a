"""What limits a network on this processor: its arithmetic, or its memory.

The work is that of the plain networks, layer by layer. A step of training multiplies
three times as much as a pass forwards, and reads and writes the map of each layer at
least 16 times: convolution, statistics, batch norm and ReLU forwards (7), the same
backwards (9). In scoring, the batch norm is part of the convolution, and these are 4.
"""

import measuring
import plain
import torch
from torch.utils.flop_counter import FlopCounterMode

N_FRAMES = 96
PASSES = {"training": 16, "scoring": 4}
MULTIPLES = {"training": 3, "scoring": 1}


def measure_limits(repeats=5):
    """Billions of float operations, and of bytes copied, in a second."""
    ways = {"gemm": make_product, "copy": make_copy}
    seconds = measuring.take_turns(ways, repeats)
    return {
        "GFLOP": 2 * _SIZE**3 / seconds["gemm"] / 1e9,
        "GB": 2 * _BYTES / seconds["copy"] / 1e9,
    }


_SIZE, _BYTES = 2048, 2**28


def make_product():
    a, b = torch.rand(_SIZE, _SIZE), torch.rand(_SIZE, _SIZE)
    return lambda: torch.mm(a, b)


def make_copy():
    source = torch.ones(_BYTES // 4)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def count_work(network, what):
    """Float operations and bytes of one segment."""
    net = plain.NETWORKS[network](n_classes=6).eval()
    n_bytes = []
    for layer in net.features:
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(
                lambda layer, inputs, maps: n_bytes.append(maps.numel() * 4)
            )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 128, N_FRAMES))
    operations = MULTIPLES[what] * counter.get_total_flops()
    return operations, PASSES[what] * sum(n_bytes)


def describe(network, what, rate, limits):
    """Say which share of both limits so many segments in a second reach."""
    operations, n_bytes = count_work(network, what)
    most = {
        "multiplying": limits["GFLOP"] * 1e9 / operations,
        "copying": limits["GB"] * 1e9 / n_bytes,
    }
    shares = {name: 100 * rate / segments for name, segments in most.items()}
    return (
        f"- {network}, {what} in float32: {operations / 1e6:.0f} million operations "
        f"and {n_bytes / 1e6:.1f} MB for a segment, if done layer by layer. "
        f"{measuring.show(rate)} segments/s are {shares['multiplying']:.0f} % of what "
        f"this processor multiplies ({limits['GFLOP']:.0f} GFLOP/s), and "
        f"{shares['copying']:.0f} % of what it copies ({limits['GB']:.1f} GB/s)."
    )
