"""Random numbers of one training, whatever other threads draw meanwhile.

torch's layers draw from a generator that belongs to the process. Inside
:func:`own_draws`, all that this thread draws comes from generators of its training.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Draws", "current_draws", "own_draws", "seeded"]

_THREAD = threading.local()


class Draws(TorchDispatchMode):
    """While it is entered, operations of this thread draw from generators of its own.

    The numbers are those that torch's own generators would give with the seed.

    Parameters
    ----------
    seed : int
        Seeds the generator of each device.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generators: dict[str, torch.Generator] = {}

    def generator(self, device: torch.device | str) -> torch.Generator:
        """Look up the generator of a device.

        Parameters
        ----------
        device : torch.device or str
            The device.

        Returns
        -------
        generator : torch.Generator
            Seeded when it was first looked up.
        """
        name = str(device)
        if name not in self.generators:
            self.generators[name] = torch.Generator(name).manual_seed(self.seed)
        return self.generators[name]

    def states(self) -> dict[str, torch.Tensor]:
        """Give the generators' states, for a checkpoint.

        Returns
        -------
        states : dict of str to tensor of uint8
            By the device.
        """
        return {name: one.get_state() for name, one in self.generators.items()}

    def restore(self, states: dict[str, torch.Tensor]) -> None:
        """Go on with generators as they were.

        Parameters
        ----------
        states : dict of str to tensor of uint8
            From `states`.
        """
        for name, state in dict(states).items():
            device = torch.device(name)
            # This computer may have fewer GPUs than the one that saved them.
            if device.type != "cuda" or (device.index or 0) < torch.cuda.device_count():
                self.generator(name).set_state(state)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, with a generator of ours if it draws."""
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        device = _find_device(args, kwargs)
        if device.type == "meta" or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        generator = self.generator(device)
        if func is torch.ops.aten.native_dropout.default:
            return _drop(*args, generator=generator, **kwargs)
        if any(one.name == "generator" for one in func._schema.arguments):
            return func(*args, **{**kwargs, "generator": generator})
        name = f"{str(func).rpartition('.')[2]}_generator".removeprefix("default_")
        if name in func.overloadpacket.overloads():
            twin = getattr(func.overloadpacket, name)
            return twin(*args, generator=generator, **kwargs)
        return _draw_apart(func, args, kwargs, generator)


@contextmanager
def seeded(seed: int) -> Iterator[Draws]:
    """Make generators for a training in this thread.

    Parameters
    ----------
    seed : int
        Decides what is drawn.

    Yields
    ------
    draws : Draws
        To be entered where something is drawn: entered throughout, it would slow down
        the backward passes, which draw nothing.
    """
    before = current_draws()
    _THREAD.draws = Draws(seed)
    try:
        yield _THREAD.draws
    finally:
        _THREAD.draws = before


def current_draws() -> Draws | None:
    """Look up the generators of this thread's training.

    Returns
    -------
    draws : Draws or None
        None outside :func:`seeded`.
    """
    return getattr(_THREAD, "draws", None)


def own_draws() -> AbstractContextManager[Any]:
    """Draw from the generators of this thread's training while the context lasts.

    Returns
    -------
    context : context manager
        Without effect outside :func:`seeded`.
    """
    return current_draws() or nullcontext()


def _find_device(args: Any, kwargs: dict[str, Any]) -> torch.device:
    """Device on which an operation draws."""
    for value in args:
        if isinstance(value, torch.Tensor):
            return value.device
    device = torch.device(kwargs.get("device") or "cpu")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _drop(
    x: torch.Tensor, p: float, train: bool | None, *, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Dropout as GPUs do it, which takes no generator: the result, and what is kept."""
    if train is False or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    kept = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
    return x * kept * (0 if p == 1 else 1 / (1 - p)), kept.bool()


def _draw_apart(
    func: Any, args: Any, kwargs: dict[str, Any], generator: torch.Generator
) -> Any:
    """Run an operation that takes no generator, from a seed that ours draws."""
    seed = torch.empty((), dtype=torch.int64, device=generator.device)
    seed.random_(generator=generator)
    on_gpu = [generator.device] if generator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=on_gpu):
        torch.manual_seed(int(seed))
        return func(*args, **kwargs)
