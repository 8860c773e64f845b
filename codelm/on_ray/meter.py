"""What a training uses: the arithmetic of the devices, and memory."""

import resource
from typing import Any

import torch

from codelm.config import Experiment
from codelm.training.engine import Engine
from codelm.training.throughput import MEASURED, flops_per_token, peak_flops


class Meter:
    """Measures on one worker.

    The peak of a device that no table has is measured at each validation, and the best counts: on a machine that
    others use a single measurement would make more than 100 % of what the training does. Figures from before the best
    one are too high.

    Args:
        engine: this worker's.
        device, precision: what is computed on, and in.
        parameters: of the model.
        config: of the model.
        length: tokens in a sequence.
        experiment: names the accelerator, where Ray and not torch knows it.
    """

    def __init__(
        self,
        engine: Engine,
        device: torch.device,
        precision: str,
        parameters: int,
        config: Any,
        length: int,
        experiment: Experiment,
    ) -> None:
        self._workers, self._device, self._precision = engine.workers, device, precision
        self._name = experiment.cluster.accelerator_type
        self._flops = flops_per_token(parameters, config.num_hidden_layers, config.hidden_size, length)
        self._peak, self._source = 0.0, MEASURED

    def utilisation(self, tokens_per_second: float) -> float:
        """MFU: the share of all workers' peak."""
        if not self._peak:
            self._measure()
        return tokens_per_second * self._flops / (self._peak * self._workers)

    def _measure(self) -> None:
        if self._source == MEASURED:
            peak, self._source = peak_flops(self._device, self._precision, self._name)
            self._peak = max(self._peak, peak)

    def read(self, metrics: dict[str, float]) -> dict[str, float]:
        """MFU, from the loop's metrics, and the memory in GiB that this worker has used at most."""
        if "validation_loss" in metrics:
            self._measure()
        rate = metrics.get("tokens_per_second", 0.0)
        return {"memory_gib": self._memory(), **({"mfu": self.utilisation(rate)} if rate else {})}

    def facts(self, tokens_per_second: float) -> dict[str, Any]:
        """The same for the end of a stage."""
        return {
            "mfu": round(self.utilisation(tokens_per_second), 4),
            "peak_flops": f"{self._peak * self._workers:.3g} {self._source}",
            "memory_gib": round(self._memory(), 2),
        }

    def _memory(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def live_line(metrics: dict[str, float]) -> str:
    """What stands beside the progress: the loss, what the step did, and how fast it goes."""
    return (
        f"loss {metrics['train_loss']:.3f}  lr {metrics['learning_rate']:.2g}  norm {metrics['gradient_norm']:.2f}  "
        f"{metrics['tokens']:,.0f} tokens  {metrics['tokens_per_second']:,.0f} tokens/s  mfu {metrics['mfu']:.1%}  "
        f"{metrics['memory_gib']:.1f} GiB"
    )
