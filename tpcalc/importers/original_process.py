"""The original in a process of its own, evaluated one structure at a time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms

from tpcalc.errors import MissingDependency
from tpcalc.importers.foreign import worker_environment
from tpcalc.importers.probes import as_plain

_SERVER = Path(__file__).with_name("original_server.py")


class OriginalProcess:
    """Call it with positions [N, 3] (Å) and the original's own calculator answers.

    Executes the pickle in `path`; the caller has asked for trust. Use as a context manager.

    Args:
        path: the original's file.
        kind: a key of `foreign.PACKAGES`, or "e3nn": `path` is a NAME.safetensors of ours and
            `cg/e3nn` computes it.
        atoms: numbers, cell and periodicity.
        python: interpreter that has the package.
        head, form: see `original_worker.calculator`.
        retain: keep freed memory in that process (`retain_freed_memory`).
    """

    def __init__(self, path, kind: str, atoms: Atoms, python, dtype: str = "float32",
                 threads: int = 1, retain: bool = True, head: str | None = None,
                 form: str | None = None):  # fmt: skip
        self.kind = kind
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            [str(python), str(_SERVER), kind, str(path)], text=True, stderr=self._log,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=worker_environment(threads, ours=kind == "e3nn"),
        )  # fmt: skip
        self._send({
            "dtype": dtype, "threads": threads, "retain": retain, "head": head, "form": form,
            "structure": as_plain(atoms),
        })  # fmt: skip

    def __enter__(self) -> OriginalProcess:
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()  # the end of its input ends it
        self._log.close()

    def __call__(self, positions: np.ndarray) -> dict:
        """energy (eV), forces [N, 3] (eV/Å), wall and cpu (ms), peak_MB.

        Raises:
            MissingDependency: the process ended, with the last lines it wrote.
        """
        self._send(np.asarray(positions).tolist())
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        result = json.loads(line)
        result["forces"] = np.array(result["forces"])
        return result

    def _send(self, message) -> None:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def _fail(self) -> None:
        self._process.wait()
        self._log.seek(0)
        tail = " | ".join(self._log.read().strip().splitlines()[-3:])
        command = " ".join(self._process.args[:3])
        raise MissingDependency(f"{self.kind}: `{command} ...` ended: {tail}")
