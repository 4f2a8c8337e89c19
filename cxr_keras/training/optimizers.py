"""Adam on PyTorch's fused kernel.

Keras's own Adam on the torch backend allocates five temporaries the size of the model at every
step; the fused kernel reads and writes each number once.
"""

from __future__ import annotations

from typing import Any

import keras


def adam(learning_rate: float, **options: Any) -> keras.optimizers.Optimizer:
    """`keras.optimizers.Adam`, computed by torch's fused kernel where the backend is torch.

    Args:
        learning_rate: step size.
        **options: as for `keras.optimizers.Adam`.

    Returns:
        An optimizer whose steps equal `keras.optimizers.Adam`'s up to float rounding.
    """
    if keras.backend.backend() == "torch":
        return _fused_adam()(learning_rate=learning_rate, **options)
    return keras.optimizers.Adam(learning_rate=learning_rate, **options)


def _fused_adam() -> type[keras.optimizers.Adam]:
    """The torch-only class, made on first use so that other backends never import torch."""
    if _CLASS:
        return _CLASS[0]
    import torch
    from keras.src.backend.torch.optimizers.torch_adam import Adam as TorchAdam
    from torch.optim.adam import adam as torch_adam

    class FusedAdam(TorchAdam):
        """Keras's Adam with one call of torch's fused kernel for all variables."""

        def _parallel_update_step(
            self, grads: list[Any], variables: list[Any], learning_rate: Any
        ) -> None:
            places = [self._get_variable_index(variable) for variable in variables]
            values = [variable.value for variable in variables]
            step = int(self.iterations) + 1
            # Keras adds epsilon to √v, torch to √(v / (1 - β₂ᵗ)): the same after rescaling it.
            epsilon = self.epsilon / (1.0 - self.beta_2**step) ** 0.5
            maxima = [self._velocity_hats[i].value for i in places] if self.amsgrad else []
            torch_adam(
                values,
                [grad.to(value.dtype) for grad, value in zip(grads, values, strict=True)],
                [self._momentums[i].value for i in places],
                [self._velocities[i].value for i in places],
                maxima,
                # torch counts the step itself, before it uses it
                [torch.full((), step - 1.0, device=value.device) for value in values],
                fused=True,
                amsgrad=self.amsgrad,
                beta1=self.beta_1,
                beta2=self.beta_2,
                lr=float(learning_rate),
                weight_decay=0.0,  # Keras applies its decoupled decay before this
                eps=epsilon,
                maximize=False,
            )

    _CLASS.append(FusedAdam)
    return FusedAdam


_CLASS: list[type[keras.optimizers.Adam]] = []
