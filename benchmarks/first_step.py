"""Seconds from a command to its first train step: python -m benchmarks.first_step genjax DIR."""

import json
import os
import sys
import time
from typing import Any

EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


def since_command() -> float:
    return time.time() - float(os.environ["BENCHMARK_BEGAN"])


def tell(phases: dict[str, float]) -> None:
    """Prints the seconds and ends the process at once, whatever else it meant to do."""
    print(json.dumps({"total": since_command(), **phases}), flush=True)
    os._exit(0)


def genjax(directory: str) -> None:
    """The real command, stopped after its first dispatch.

    Phases: import; set_up, of data, parameters and state; and of the step trace, lower, compile
    (from the cache where it is warm).
    """
    from genjax.cli import main, platform

    configure = platform.configure

    def configured() -> None:
        configure()
        import jax

        spent = dict.fromkeys(EVENTS.values(), 0.0)

        def listen(event: str, seconds: float, **_: Any) -> None:
            if event in EVENTS:
                spent[EVENTS[event]] += seconds

        jax.monitoring.register_event_duration_secs_listener(listen)
        from genjax.train.layout import DataParallel

        imported = since_command()
        compiled = DataParallel.compile

        def compile_once(self: Any, *arguments: Any, **options: Any) -> Any:
            dispatch = compiled(self, *arguments, **options)

            def first(*state_key_batch: Any) -> None:
                set_up = since_command()
                spent.update(dict.fromkeys(spent, 0.0))
                jax.block_until_ready(dispatch(*state_key_batch))
                tell({"import": imported, "set_up": set_up - imported, **spent})

            return first

        DataParallel.compile = compile_once  # type: ignore[method-assign]

    platform.configure = configured
    from experiments import ddpm_fashion

    sys.argv[1:] = ["--run.dir", directory]
    main.main("ddpm_fashion", "", ddpm_fashion.Config(), ddpm_fashion.build)


def torch(way: str) -> None:
    """The same network's first step in PyTorch."""
    from benchmarks.cases import FIRST, Player
    from benchmarks.child import prepare

    prepare("torch")
    from benchmarks.torch_training import Training

    training = Training(FIRST, Player("torch", way))
    training.run(1)
    tell({"set_up": training.init_seconds})


if __name__ == "__main__":
    {"genjax": genjax, "torch": torch}[sys.argv[1]](sys.argv[2])
