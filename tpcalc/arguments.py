"""Arguments that several verbs share."""

from __future__ import annotations

import argparse

from tpcalc.errors import InputError, check_name

ALLOCATORS = ("retain", "system")


def add_potential_arguments(parser: argparse.ArgumentParser) -> None:
    """POTENTIAL, --variant, --dtype, --device, --skin."""
    parser.add_argument("potential", help="NAME.safetensors")
    parser.add_argument(
        "--variant", help="tensor-product variant, or auto (measures); see `tpcalc variants`"
    )
    add_device_arguments(parser)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """--dtype, --device, --skin, --mode, --radial, --threads, --allocator."""
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--skin", type=float, default=0.5, help="Å of the neighbour list (0.5)")
    parser.add_argument("--mode", default="eager", help="eager or torchscript (eager)")
    parser.add_argument(
        "--radial", default="network",
        help="network, or spline: radial networks as splines in the fused kernels (network)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="threads of torch (its own default)")
    parser.add_argument(
        "--allocator", default="retain", help="retain freed memory (glibc) or system (retain)"
    )


def whole_numbers(name: str, text: str, least: int = 1) -> list[int]:
    """A comma list of whole numbers, the value of the option `name`.

    Raises:
        InputError: an entry that is none, or below `least`.
    """
    parts = text.split(",")
    if not all(part.isdigit() and int(part) >= least for part in parts):
        raise InputError(f"{name} {text!r} is not a comma list of whole numbers >= {least}")
    return [int(part) for part in parts]


def set_threads(threads: int) -> None:
    """Threads of torch in this process.

    Raises:
        InputError: fewer than one.
    """
    if threads < 1:
        raise InputError(f"--threads is {threads}; it must be at least 1")
    import torch

    torch.set_num_threads(threads)


def prepare_process(args: argparse.Namespace) -> None:
    """Apply --threads and --allocator: a command owns its process, the library never does this."""
    if args.threads is not None:
        set_threads(args.threads)
    check_name("allocator", args.allocator, ALLOCATORS)
    if args.allocator == "retain":
        from tpcalc.kernels.allocator import retain_freed_memory

        if not retain_freed_memory():
            args.allocator = "system"  # not glibc; reports say what is in use


def make_calculator(args: argparse.Namespace):
    """The `TPCalculator` that the arguments describe."""
    from tpcalc.calculator import TPCalculator

    prepare_process(args)
    return TPCalculator(args.potential, args.variant, **calculator_options(args))


def calculator_options(args: argparse.Namespace) -> dict:
    """dtype, device, skin, mode and radial, as `TPCalculator` takes them."""
    return {name: getattr(args, name) for name in ("device", "dtype", "skin", "mode", "radial")}


def add_memory_arguments(parser: argparse.ArgumentParser) -> None:
    """--retain (the default) or --plain, of benchmarks that grant it to both sides."""
    memory = parser.add_mutually_exclusive_group()
    memory.add_argument(
        "--retain", action="store_true", default=True,
        help="keep freed memory in the process, for all that is compared (the default)",
    )  # fmt: skip
    memory.add_argument(
        "--plain", dest="retain", action="store_false", help="the system's allocator as it is"
    )


def retain_if_asked(args: argparse.Namespace) -> None:
    """What `add_memory_arguments` promises, in this process.

    Raises:
        InputError: memory cannot be kept on this system.
    """
    from tpcalc.kernels.allocator import retain_freed_memory

    if args.retain and not retain_freed_memory():
        raise InputError("keeping freed memory needs glibc; say --plain")
