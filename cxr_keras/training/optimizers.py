"""Adam, AdamW and SGD, with a rate for each layer, on PyTorch's fused kernel where there is one.

Keras's own Adam on the torch backend allocates five temporaries the size of the model at every
step; the fused kernel reads and writes each number once.

What it needs of Keras: an optimizer calls `update_step` for each variable from `apply`, as custom
optimizers do. What it needs of torch: `torch._fused_adam_`, the kernel behind
`torch.optim.Adam(fused=True)`. Without the latter, on another backend, or with the switch of
`torch_kernels` off, Keras's own Adam is used, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from cxr_keras.models.torch_kernels import kernels_enabled
from cxr_keras.utils.console import notice

SGD_MOMENTUM = 0.9


def make_optimizer(
    name: str,
    learning_rate: Any,
    *,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    accumulate: int = 1,
    ema: float = 0.0,
    rates: Mapping[str, float] | None = None,
    body_from: int = 0,
    **options: Any,
) -> keras.optimizers.Optimizer:
    """The optimizer called `name`.

    Args:
        name: "adam", "adamw" or "sgd" (with momentum 0.9).
        learning_rate: step size, or a Keras schedule.
        weight_decay: decoupled (Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
            ICLR 2019, https://arxiv.org/abs/1711.05101): a step takes this share, times the rate,
            off each kernel; vectors (biases, batch normalisation) keep theirs.
        clip_norm: the largest norm of the gradient over all variables; 0 for no limit.
        accumulate: gradients averaged for one step.
        ema: momentum of Keras's average of the variables; 0 for none.
        rates: path of a variable → its share of the learning rate; 1 for those not named.
        body_from: the batch, from 0, from which the variables in `rates` move at all.
        **options: for Keras's optimizer.
    """
    options |= {
        "global_clipnorm": clip_norm or None,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
        "use_ema": bool(ema),
        "ema_momentum": ema or 0.99,
    }
    kind: Any
    if name == "sgd":
        kind, options["momentum"] = _RatedSGD, SGD_MOMENTUM
    else:
        kind = _RatedFusedAdam if _has_fused_adam() else _RatedAdam
    optimizer: keras.optimizers.Optimizer = kind(learning_rate=learning_rate, **options)
    optimizer.rates, optimizer.decay, optimizer.body_from = (
        dict(rates or {}),
        weight_decay,
        body_from,
    )
    return optimizer


def _has_fused_adam() -> bool:
    if not kernels_enabled():
        return False
    import torch

    if hasattr(torch, "_fused_adam_"):
        return True
    notice("This PyTorch has no fused Adam: training uses Keras's own, which is slower.")
    return False


class _FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with torch's fused kernel in `update_step`.

    Nothing is read back from the device after the first step, which would make the processor wait
    for it: the number of the step is counted here and written into one tensor, and the kernel
    takes the learning rate as the tensor that Keras keeps.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._applied: int | None = None
        self._step: Any = None  # float32 (), on the variables' device

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Update the variables; a restored checkpoint must be in place before the first call."""
        import torch

        if trainable_variables is not None and not self.built:
            self.build(trainable_variables)
        if self._applied is None:
            self._applied = int(self._iterations)
            self._step = torch.zeros((), device=self._iterations.value.device)
        number = self._applied // (self.gradient_accumulation_steps or 1) + 1
        self._applied += 1
        self._step.fill_(number)
        # Keras adds epsilon to √v, torch to √(v / (1 - β₂ᵗ)): the same after rescaling it.
        self._torch_epsilon = self.epsilon / (1.0 - self.beta_2**number) ** 0.5
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step, in place."""
        import torch

        place = self._get_variable_index(variable)
        value = variable.value
        with torch.no_grad():
            torch._fused_adam_(
                [value],
                [gradient.to(value.dtype)],
                [self._momentums[place].value],
                [self._velocities[place].value],
                [self._velocity_hats[place].value] if self.amsgrad else [],
                [self._step],
                lr=keras.ops.convert_to_tensor(learning_rate),
                beta1=self.beta_1,
                beta2=self.beta_2,
                weight_decay=0.0,  # Keras applies its decoupled decay before this
                eps=self._torch_epsilon,
                amsgrad=self.amsgrad,
                maximize=False,
                grad_scale=None,
                found_inf=None,
            )


class _Rated:
    """Before an optimizer's own step: the variable's share of the rate, and its decay.

    Attributes:
        rates, decay, body_from: as in `make_optimizer`.
    """

    rates: Mapping[str, float]
    decay: float
    body_from: int

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        ops = keras.ops
        if variable.path in self.rates:
            learning_rate = learning_rate * self.rates[variable.path]
            if self.body_from:
                moves = self._iterations >= self.body_from  # type: ignore[attr-defined]
                learning_rate = learning_rate * ops.cast(moves, learning_rate.dtype)
        if self.decay and len(variable.shape) > 1:
            variable.assign(variable * ops.cast(1.0 - learning_rate * self.decay, variable.dtype))
        super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]


class _RatedAdam(_Rated, keras.optimizers.Adam):
    pass


class _RatedFusedAdam(_Rated, _FusedAdam):
    pass


class _RatedSGD(_Rated, keras.optimizers.SGD):
    pass
