"""Run tests/kernels with the ops compiled under AddressSanitizer: python tests/kernels/sanitize.py

Takes a few minutes; needs g++ and its libasan. Leaks are not looked for (Python and torch keep
memory on purpose).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tpcalc.kernels import build

FLAGS = ("-fsanitize=address", "-g1", "-O0")  # unrolled code would compile for ten minutes
# too slow, and those that run an interpreter of their own
SELECTED = "not million and not sets_agree and not maces_largest and not nothing_was_loaded"
ROOT = Path(__file__).parents[2]
OTHERS = {"test_build.py", "test_cuda.py", "test_aarch64.py"}  # they compile libraries


def main() -> int:
    """Build, preload the sanitizer, run the tests; the exit code of pytest."""
    compiler = build.compiler().split()
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libtpcalc_asan.so"
        objects = build.compile_objects(Path(folder), flags=FLAGS)
        subprocess.run(
            [*compiler, *FLAGS, *map(str, objects), *build.link_flags(), "-o", str(library)],
            check=True,
        )
        # libstdc++ as well: the sanitizer looks for the real __cxa_throw when it starts
        runtime = " ".join(
            subprocess.run(
                [*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
            ).stdout.strip()
            for name in ("libasan.so", "libstdc++.so")
        )
        env = {
            **os.environ, "LD_PRELOAD": runtime, "OMP_NUM_THREADS": "1",
            "ASAN_OPTIONS": "detect_leaks=0,verify_asan_link_order=0",
        }  # fmt: skip
        tests = sorted(str(p) for p in Path(__file__).parent.glob("test_*.py")
                       if p.name not in OTHERS)  # fmt: skip
        code = (
            f"import sys, torch, pytest; torch.ops.load_library({str(library)!r})\n"
            f"sys.exit(pytest.main(['-n', '0', *{tests!r}, '-k', {SELECTED!r}]))"
        )
        return subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
