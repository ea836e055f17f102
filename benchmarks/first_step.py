"""Seconds from a command to its first train step: python -m benchmarks.first_step genjax DIR."""

import json
import os
import sys
import time
from itertools import pairwise
from typing import Any


def since_command() -> float:
    return time.time() - float(os.environ["BENCHMARK_BEGAN"])


def report(phases: dict[str, float]) -> None:
    """Prints the seconds and exits at once."""
    print(json.dumps({"total": since_command(), **phases}), flush=True)
    os._exit(0)


def genjax(directory: str, *flags: str) -> None:
    """The real command, stopped after its first train step; with flags that of ddpm_cifar10.

    Phases: import; set_up, of data and network; compile, of the step, traced and compiled or read
    from the cache, while the initial state is drawn on another core; wait, for that; and the step.
    """
    from genjax.cli import main, restart, startup

    restart.keep_freed_memory()
    configure = startup.configure

    def configured() -> None:
        configure()
        import jax

        from genjax.train.layout import CompiledSteps

        at = [0.0, since_command()]
        prepare, call = CompiledSteps.prepare, CompiledSteps.__call__

        def prepared(*arguments: Any) -> None:
            ahead = len(at) == 2  # the loop asks again, for what is compiled by then
            if ahead:
                at.append(since_command())
            prepare(*arguments)
            if ahead:
                at.append(since_command())

        def called(*arguments: Any) -> None:
            at.append(since_command())
            jax.block_until_ready(call(*arguments))
            at.append(since_command())
            phases = ("import", "set_up", "compile", "wait", "step")
            report(dict(zip(phases, (end - start for start, end in pairwise(at)), strict=True)))

        CompiledSteps.prepare = prepared  # type: ignore[method-assign]
        CompiledSteps.__call__ = called  # type: ignore[assignment, method-assign]

    startup.configure = configured
    from experiments import ddpm_cifar10, ddpm_fashion

    name, module = ("ddpm_cifar10", ddpm_cifar10) if flags else ("ddpm_fashion", ddpm_fashion)
    sys.argv[1:] = ["--run.dir", directory, *flags]
    main.main(name, "", module.Config(), module.build)


def torch(way: str) -> None:
    """The same network's first step in PyTorch."""
    from benchmarks.cases import FIRST, Contender
    from benchmarks.worker import prepare

    prepare("torch")
    from benchmarks.torch_training import Training

    training = Training(FIRST, Contender("torch", way))
    training.run(1)
    report({"set_up": training.init_seconds})


if __name__ == "__main__":
    {"genjax": genjax, "torch": torch}[sys.argv[1]](*sys.argv[2:])
