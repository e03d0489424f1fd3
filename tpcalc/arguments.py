"""Arguments that several verbs share."""

from __future__ import annotations

import argparse

from tpcalc.errors import InputError


def add_potential_arguments(parser: argparse.ArgumentParser) -> None:
    """POTENTIAL, --variant, --dtype, --device, --skin."""
    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument(
        "--variant", help="tensor-product variant, or auto (measures); see `tpcalc variants`"
    )
    add_device_arguments(parser)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """--dtype, --device, --skin, --mode, --threads."""
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--skin", type=float, default=0.5, help="Å of the neighbour list (0.5)")
    parser.add_argument("--mode", default="eager", help="eager or torchscript (eager)")
    parser.add_argument("--threads", type=int, help="threads of torch (its own default)")


def set_threads(args: argparse.Namespace) -> None:
    """Apply --threads: the command line owns its process, the library never does this."""
    if args.threads is not None:
        if args.threads < 1:
            raise InputError(f"--threads is {args.threads}; it must be at least 1")
        import torch

        torch.set_num_threads(args.threads)


def make_calculator(args: argparse.Namespace):
    """The `TPCalculator` that the arguments describe."""
    from tpcalc.calculator import TPCalculator

    set_threads(args)
    return TPCalculator(args.potential, args.variant, **calculator_options(args))


def calculator_options(args: argparse.Namespace) -> dict:
    """dtype, device, skin and mode, as `TPCalculator` takes them."""
    return {name: getattr(args, name) for name in ("device", "dtype", "skin", "mode")}
