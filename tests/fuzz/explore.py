"""One target under a fuzzer, in a process of its own: `python -m tests.fuzz.explore TARGET FOLDER`.

With atheris (libFuzzer: mutations guided by the coverage of our code) if it is installed, else with
Hypothesis over the kept inputs. FOLDER keeps what was found interesting, from run to run; an input
that breaks a rule is left there as `crash-…`, and the process ends with a traceback. A state
machine needs neither: Hypothesis makes its steps, and prints those that break a rule.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.machines import MACHINES, run_machine

PACKAGES = ["api", "broker", "config", "storage"]
INPUT_BYTES_MAX = 8192
_EXAMPLES_AT_ONCE = 2000


def has_atheris() -> bool:
    """Whether the fuzzer that looks at coverage is installed."""
    return importlib.util.find_spec("atheris") is not None


def run_atheris(name: str, folder: Path, *, seconds: float, seed: int) -> None:
    """Fuzz until the time is over or a rule is broken; ends the process."""
    atheris: Any = importlib.import_module("atheris")

    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.inputs import kept_inputs
        from tests.fuzz.targets import TARGETS
    with tempfile.TemporaryDirectory() as given:
        for number, data in enumerate(kept_inputs(name)):
            Path(given, f"kept-{number}").write_bytes(data)
        tokens = Path(given).with_suffix(".dict")
        tokens.write_text(
            "".join(
                '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n'
                for token in TARGETS[name].tokens
            )
        )
        options = [
            f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}", "-print_final_stats=1",
            f"-max_len={INPUT_BYTES_MAX}", f"-artifact_prefix={folder}/", "-timeout=20",
            "-rss_limit_mb=2048",
        ]  # fmt: skip
        if TARGETS[name].tokens:
            options.append(f"-dict={tokens}")
        atheris.Setup([sys.argv[0], *options, str(folder), given], TARGETS[name].run)
        atheris.Fuzz()


def run_hypothesis(name: str, folder: Path, *, seconds: float, seed: int) -> None:
    """The same without coverage: mutations of what is kept."""
    import hypothesis

    from tests.fuzz.inputs import mutated
    from tests.fuzz.targets import TARGETS

    run = TARGETS[name].run
    hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    done = 0
    last = b""

    @hypothesis.settings(
        max_examples=_EXAMPLES_AT_ONCE, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(mutated(name))
    def explore(data: bytes) -> None:
        nonlocal done, last
        done, last = done + 1, data
        run(data)

    try:
        while time.monotonic() < end:
            hypothesis.seed(rng.randrange(2**32))(explore)()
    except BaseException:
        (folder / f"crash-{name}").write_bytes(last)
        raise
    finally:
        print(f"stat::number_of_executed_units: {done}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        if given.target in MACHINES:
            run_machine(given.target, seconds=given.seconds, seed=given.seed)
            return
        run = run_atheris if has_atheris() else run_hypothesis
        run(given.target, given.folder, seconds=given.seconds, seed=given.seed)


if __name__ == "__main__":
    main()
