"""Dormand-Prince of order 5 with adaptive steps, by torchdiffeq, kept inside the interval that it is given."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from dit.errors import DitError

State = TypeVar("State", Tensor, tuple[Tensor, ...])


def integrate_adaptively(
    slope: Callable[[Tensor, State], State], state: State, start: Tensor, end: Tensor, *, tolerance: float
) -> State:
    """Solve d state / d t = slope(t, state) from t = start to t = end.

    Args:
        slope: of the time, () float64 on the CPU, and the state.
        state: a tensor, or a tuple of tensors. The error is the root mean square over all of a tensor, so a sample
            depends on the others of its batch within the tolerance.
        start: () float64.
        end: () float64, before or after the start. No time beyond it is evaluated: there may be nothing there.
        tolerance: relative and absolute error of a step.

    Raises:
        DitError: the slope is not finite, or so rough that the tolerance is out of reach.

    Source: Dormand & Prince, "A family of embedded Runge-Kutta formulae", 1980.
    """
    from torchdiffeq import odeint

    low, high = torch.minimum(start, end), torch.maximum(start, end)

    def checked(t: Tensor, state: State) -> State:
        # torchdiffeq's guess of the first step may look beyond the end.
        value = slope(t.cpu().double().clamp(low, high), state)
        if not all(part.isfinite().all() for part in (value if isinstance(value, tuple) else (value,))):
            raise DitError(f"dopri5: the network returned values that are not finite, at t={float(t):g}")
        return value

    device = (state if isinstance(state, Tensor) else state[0]).device
    ends = torch.stack([start, end]).double().to(device)
    try:
        # Without step_t the last step goes beyond the end and is interpolated back.
        options = {"step_t": ends[1:]}
        states = odeint(checked, state, ends, rtol=tolerance, atol=tolerance, method="dopri5", options=options)
    except AssertionError as error:
        raise DitError(f"dopri5: expected a larger tolerance, {tolerance:g} is out of reach ({error})") from None
    return states[-1] if isinstance(states, Tensor) else tuple(part[-1] for part in states)  # pyright: ignore[reportReturnType]
