"""Adam on PyTorch's fused kernel.

Keras's own Adam on the torch backend allocates five temporaries the size of the model at every
step; the fused kernel reads and writes each number once.

What it needs of Keras: an optimizer calls `update_step` for each variable from `apply`, as custom
optimizers do. What it needs of torch: `torch._fused_adam_`, the kernel behind
`torch.optim.Adam(fused=True)`. Without the latter, on another backend, or with the switch of
`torch_kernels` off, Keras's own Adam is used, with the same result.
"""

from __future__ import annotations

from typing import Any

import keras

from cxr_keras.models.torch_kernels import kernels_enabled
from cxr_keras.utils.console import notice


def adam(learning_rate: Any, **options: Any) -> keras.optimizers.Optimizer:
    """`keras.optimizers.Adam`, computed by torch's fused kernel where there is one.

    Args:
        learning_rate: step size, or a Keras schedule.
        **options: as for `keras.optimizers.Adam`.

    Returns:
        An optimizer whose steps equal `keras.optimizers.Adam`'s up to float rounding.
    """
    if kernels_enabled():
        import torch

        if hasattr(torch, "_fused_adam_"):
            return _FusedAdam(learning_rate=learning_rate, **options)
        notice("This PyTorch has no fused Adam: training uses Keras's own, which is slower.")
    return keras.optimizers.Adam(learning_rate=learning_rate, **options)


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
