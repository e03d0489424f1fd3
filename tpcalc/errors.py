"""Errors that reach a user: one sentence each, with the value received and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TpcalcError(Exception):
    """Base of every error tpcalc raises on purpose; `exit_code` is what the CLI returns."""

    exit_code = 2


class CheckFailed(TpcalcError):
    """A measured value is outside what was promised (exit code 1)."""

    exit_code = 1


class InputError(TpcalcError, ValueError):
    """A file, name or argument is not usable (exit code 2)."""


class MissingDependency(TpcalcError, ImportError):
    """A package or a compiler is absent (exit code 3); the message says how to add it."""

    exit_code = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or the list of known names where none is close."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return "; known: " + ", ".join(known)


def check_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known.

    Raises:
        InputError: naming `kind`, the name received, and the closest known one.
    """
    known = list(known)
    if name not in known:
        raise InputError(f"unknown {kind} {name!r}{did_you_mean(str(name), known)}")
    return name
