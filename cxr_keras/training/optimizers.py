"""Adam, AdamW and SGD: Keras's own steps, on PyTorch's fused kernel where that is faster.

Keras's own Adam on the torch backend allocates temporaries the size of the model at every step;
the fused kernel reads and writes each number once, weight decay included, and takes all variables
in one call.

What it needs of Keras: an optimizer hands all gradients and variables to `_backend_update_step`
after `_apply_weight_decay`, as Keras's own optimizers for torch have it, and has methods of their
own for clipping, accumulated gradients and averaged weights. What it needs of torch:
`torch._fused_adamw_`, the kernel behind `torch.optim.AdamW(fused=True)`. Without the latter, on
another backend, or with the switch of `torch_kernels` off, Keras's own Adam is used, with the same
result.

SGD is Keras's own everywhere: on torch it works in place already, and torch's fused SGD keeps
another momentum, which is not the same under a schedule.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from cxr_keras.errors import CxrError
from cxr_keras.models.torch_kernels import kernels_enabled
from cxr_keras.training.options import OPTIMIZERS, SGD_MOMENTUM
from cxr_keras.utils.console import notice

# Names of biases and of normalisation's scales and shifts; TensorFlow's end in ":0"
_NO_DECAY = [r"(^|/)(bias|gamma|beta)(:\d+)?$"]


def make_optimizer(
    name: str,
    learning_rate: Any,
    *,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    ema_warmup: bool = False,
    momentum: float = SGD_MOMENTUM,
    nesterov: bool = False,
    multipliers: Mapping[str, float] | None = None,
    wait: int = 0,
) -> keras.optimizers.Optimizer:
    """An optimizer by its name.

    Args:
        name: one of `OPTIMIZERS`.
        learning_rate: step size, or a Keras schedule, which counts batches.
        weight_decay: decoupled, SGD's too: every step takes learning_rate · weight_decay of a
            variable away. Biases and the scales and shifts of normalisations are left out.
        clip_norm: gradients are scaled down to this norm of all of them together.
        accumulate: batches whose mean gradient makes one step.
        ema: momentum of an average of the weights, which Keras's `fit` puts in their place at its
            end; None for none.
        ema_warmup: average over few steps at first: the momentum is (1 + n) / (10 + n) after n
            batches, until that is more than `ema`. Without it a training of fewer steps than
            1 / (1 - ema) would end with an average that is still its first weights.
        momentum: of SGD.
        nesterov: whether SGD's momentum looks ahead.
        multipliers: path of a variable → factor of its learning rate, and with it of its decay; 1
            for others. A variable of factor 0 stays as it is, bit for bit, and so do its moments.
        wait: batches at the beginning in which the variables in `multipliers` stay as they are,
            while their moments follow the gradients.

    Raises:
        CxrError: there is no such optimizer, or a number makes no sense for it.

    Example:
        >>> from cxr_keras.training.optimizers import make_optimizer
        >>> make_optimizer("adamw", 1e-3, weight_decay=0.01).weight_decay
        0.01
    """
    if name not in OPTIMIZERS:
        names = ", ".join(OPTIMIZERS)
        raise CxrError(f"There is no optimizer {name!r}. Choose one of: {names}.")
    multipliers = multipliers or {}
    _check(weight_decay >= 0, "weight decay", "0 or more", weight_decay)
    _check(clip_norm is None or clip_norm > 0, "norm to clip gradients to", "above 0", clip_norm)
    _check(accumulate >= 1, "number of batches to accumulate", "1 or more", accumulate)
    _check(ema is None or 0 < ema < 1, "momentum of averaged weights", "between 0 and 1", ema)
    for path, factor in multipliers.items():
        _check(0 <= factor < math.inf, f"learning-rate factor of {path}", "0 or more", factor)
    if name == "adam" and weight_decay:
        raise CxrError(
            f"Adam with a decoupled weight decay is AdamW. Received: adam with {weight_decay:g}; "
            "choose adamw, or leave the weight decay out."
        )
    options: dict[str, Any] = {
        "weight_decay": weight_decay or None,
        "global_clipnorm": clip_norm,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
    }
    if ema is not None:
        options |= {"use_ema": True, "ema_momentum": ema, "ema_warmup": ema_warmup}
    if name == "sgd":
        optimizer = sgd(learning_rate, multipliers, momentum=momentum, nesterov=nesterov, **options)
    else:
        optimizer = adam(learning_rate, multipliers, **options)
    optimizer.exclude_from_weight_decay(var_names=_NO_DECAY)
    optimizer.wait = wait
    return optimizer


def adam(
    learning_rate: Any,
    multipliers: Mapping[str, float] | None = None,
    *,
    ema_warmup: bool = False,
    **options: Any,
) -> keras.optimizers.Optimizer:
    """`keras.optimizers.Adam`, computed by torch's fused kernel where there is one.

    Args:
        learning_rate: step size, or a Keras schedule.
        multipliers: see `make_optimizer`.
        ema_warmup: see there.
        **options: as for `keras.optimizers.Adam`; with `weight_decay` it is Keras's AdamW.

    Returns:
        An optimizer whose steps equal `keras.optimizers.Adam`'s up to float rounding.
    """
    if kernels_enabled():
        import torch

        if hasattr(torch, "_fused_adamw_"):
            return _FusedAdam(multipliers or {}, ema_warmup, learning_rate=learning_rate, **options)
        notice("This PyTorch has no fused Adam: training uses Keras's own, which is slower.")
    if multipliers or ema_warmup:
        return _ScaledAdam(
            multipliers or {}, ema_warmup, learning_rate=learning_rate, name="adam", **options
        )
    return keras.optimizers.Adam(learning_rate=learning_rate, **options)


def sgd(
    learning_rate: Any,
    multipliers: Mapping[str, float] | None = None,
    *,
    ema_warmup: bool = False,
    **options: Any,
) -> keras.optimizers.Optimizer:
    """`keras.optimizers.SGD`; arguments as for `adam`."""
    if multipliers or ema_warmup:
        return _ScaledSGD(
            multipliers or {}, ema_warmup, learning_rate=learning_rate, name="sgd", **options
        )
    return keras.optimizers.SGD(learning_rate=learning_rate, **options)


class _FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with torch's fused kernel for all variables that share their settings.

    Nothing is read back from the device after the first step, which would make the processor wait
    for it: the number of the step is counted here and written into one tensor, and the kernel
    takes the learning rate as the tensor that Keras keeps.
    """

    def __init__(self, multipliers: Mapping[str, float], ema_warmup: bool, **options: Any):
        super().__init__(**options)
        self._multipliers, self._ema_warmup = dict(multipliers), ema_warmup
        self.wait = 0
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
        self._number = self._applied // (self.gradient_accumulation_steps or 1) + 1
        self._applied += 1
        self._step.fill_(self._number)
        super().apply(grads, trainable_variables)

    def _apply_weight_decay(self, variables: Any) -> None:
        """The kernel does it."""

    def _backend_update_step(
        self, grads: Any, trainable_variables: Any, learning_rate: Any
    ) -> None:
        """One step of all variables, in place."""
        import torch

        rate = keras.ops.convert_to_tensor(learning_rate)
        # Keras adds epsilon to √v, torch to √(v / (1 - β₂ᵗ)): the same after rescaling it.
        epsilon = self.epsilon / (1.0 - self.beta_2**self._number) ** 0.5
        for (factor, decay, dtype), chosen in self._groups(trainable_variables).items():
            places = [self._get_variable_index(trainable_variables[i]) for i in chosen]
            maxima = [self._velocity_hats[place].value for place in places] if self.amsgrad else []
            with torch.no_grad():
                torch._fused_adamw_(
                    [trainable_variables[i].value for i in chosen],
                    [grads[i].to(dtype) for i in chosen],
                    [self._momentums[place].value for place in places],
                    [self._velocities[place].value for place in places],
                    maxima,
                    [self._step] * len(chosen),
                    lr=rate if factor == 1.0 else rate * factor,
                    beta1=self.beta_1,
                    beta2=self.beta_2,
                    weight_decay=decay,
                    eps=epsilon,
                    amsgrad=self.amsgrad,
                    maximize=False,
                    grad_scale=None,
                    found_inf=None,
                )

    def _groups(self, variables: Sequence[Any]) -> dict[tuple[float, float, Any], list[int]]:
        """Factor of the rate, weight decay and type → the places in `variables` that share them."""
        groups = defaultdict(list)
        for i, variable in enumerate(variables):
            factor = self._multipliers.get(variable.path, 1.0)
            waits = variable.path in self._multipliers and (self._applied or 0) <= self.wait
            decays = self.weight_decay and self._use_weight_decay(variable)
            if factor:
                # the moments of one that waits go on: their number of steps is that of all
                key = 0.0 if waits else factor, self.weight_decay if decays else 0.0
                groups[*key, variable.value.dtype].append(i)
        return groups

    def _clip_gradients(self, grads: Any) -> Any:
        """Keras's clipping to one norm of all gradients, without their squares in memory."""
        if not self.global_clipnorm:
            return super()._clip_gradients(grads)
        import torch

        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(grads))))
        scale = self.global_clipnorm / norm.clamp(min=self.global_clipnorm)
        # as in Keras, one gradient that is not finite makes all of them NaN
        return torch._foreach_mul(list(grads), scale + (norm - norm))

    def _backend_increment_gradient_accumulators(self, grads: Any, acc_grads: Any) -> None:
        import torch

        with torch.no_grad():
            torch._foreach_add_([total.value for total in acc_grads], list(grads))

    def _backend_reset_gradient_accumulators(self) -> None:
        import torch

        with torch.no_grad():
            torch._foreach_zero_([total.value for total in self._accumulated_gradients])

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        """Keras's average of the weights, in place; one of equal numbers is that number."""
        import torch

        momentum, done = self.ema_momentum, (self._applied or 1) - 1
        if self._ema_warmup:
            momentum = min(momentum, (1 + done) / (10 + done))
        weight = 1.0 if self._number == 1 else 1.0 - momentum
        averages = [average.value for average in self._model_variables_moving_average]
        with torch.no_grad():
            torch._foreach_lerp_(averages, [v.value for v in trainable_variables], weight)


class _Scaled:
    """A Keras optimizer on any backend whose variables have factors of the learning rate.

    It needs a name: TensorFlow takes none with the underscore of the class.
    """

    def __init__(self, multipliers: Mapping[str, float], ema_warmup: bool, **options: Any):
        super().__init__(**options)
        self._multipliers, self._ema_warmup = dict(multipliers), ema_warmup
        self.wait = 0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One variable's step."""
        factor = self._factor(variable)
        if factor is not None:
            super().update_step(gradient, variable, learning_rate * factor)  # type: ignore[misc]

    def _apply_weight_decay(self: Any, variables: Any) -> None:
        if self.weight_decay is None:
            return
        for variable in variables:
            factor = self._factor(variable)
            if factor is not None and self._use_weight_decay(variable):
                share = (
                    self.weight_decay * factor * keras.ops.cast(self.learning_rate, variable.dtype)
                )
                self.assign_sub(variable, variable * share)

    def _update_model_variables_moving_average(self: Any, trainable_variables: Any) -> None:
        """Keras's own, with a momentum that grows to its own."""
        momentum = self.ema_momentum
        if self._ema_warmup:
            done = keras.ops.cast(self._iterations, "float32")
            self.ema_momentum = keras.ops.minimum(momentum, (1 + done) / (10 + done))
        try:
            super()._update_model_variables_moving_average(trainable_variables)  # type: ignore[misc]
        finally:
            self.ema_momentum = momentum

    def _factor(self: Any, variable: Any) -> Any:
        """Of a variable of Keras's, or of the TensorFlow one within it, which has no path.

        None for 0; while the variable may still wait, what the backend works out at every step.
        """
        path = self._trainable_variables[self._get_variable_index(variable)].path
        factor = self._multipliers.get(path, 1.0)
        if not factor or not self.wait or path not in self._multipliers:
            return factor or None
        return factor * keras.ops.cast(self._iterations >= self.wait, variable.dtype)


class _ScaledAdam(_Scaled, keras.optimizers.Adam):
    pass


class _ScaledSGD(_Scaled, keras.optimizers.SGD):
    pass


def _check(fits: bool, what: str, wanted: str, received: Any) -> None:
    if not fits:
        raise CxrError(f"The {what} must be {wanted}. Received: {received}.")
