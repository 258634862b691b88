"""``python -m tests.versions``: the core tests on the oldest, the pinned and the newest releases.

Each set of releases has an environment of its own for each Python, below ``build/versions``; it is made
when it is first asked for, which downloads several gigabytes where torch brings its CUDA packages.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

__all__ = ["RELEASES", "main"]

ROOT = Path(__file__).parents[1]
HOME = ROOT / "build" / "versions"

RELEASES = {
    "oldest": ("torch==2.8.0", "transformers==4.57.*", "networkx==3.0.*", "numpy<2.4"),
    "pinned": ("-c", str(ROOT / "constraints.txt")),
    "newest": ("torch", "transformers<6", "networkx", "numpy"),
}

CORE = ("tests/test_models_given.py", "tests/test_never_stale.py", "tests/test_threads.py")
SAMPLE = ("bert", "t5", "gpt2", "llama", "clip", "bart", "whisper", "swin", "lxmert", "mixtral")
TOOLS = ("pytest>=8.2", "hypothesis>=6.100", "pillow", "scipy", "jsonschema")


def environment(name: str, interpreter: str = sys.executable) -> Path:
    """The Python of a set's environment, made where it is missing."""
    home = HOME / (name if interpreter == sys.executable else f"{name}-{Path(interpreter).name}")
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        subprocess.run([interpreter, "-m", "venv", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "-e", str(ROOT)]
        subprocess.run([*install, *RELEASES[name], *TOOLS], check=True)
        (home / "installed").touch()
    return python


def main() -> int:
    """Run the demo, the core tests and a sample of the zoo on each set; 1 where something fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*RELEASES, []], help="by default all")
    parser.add_argument(
        "--python", nargs="+", default=[sys.executable], help="such as python3.10 python3.13"
    )
    asked, failed = parser.parse_args(), []
    for name, interpreter in product(asked.names or RELEASES, asked.python):
        python = str(environment(name, interpreter))
        commands = (
            [python, "-m", "pip", "list", "--format=freeze"],
            [str(Path(python).with_name("fxplain")), "demo", "-n", "1"],
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *CORE],
            [python, "-m", "tests.zoo", "--only", *SAMPLE],
        )
        for command in commands:
            print(name, Path(interpreter).name, *command[1:4], flush=True)
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
            if done.returncode:
                failed.append(f"{name}, {Path(interpreter).name}: {' '.join(command[1:])}")
    print("\n".join(f"failed: {command}" for command in failed) or "all passed")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
