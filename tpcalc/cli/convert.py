"""`tpcalc convert SOURCE TARGET`: weights of one function as weights of another."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("source", help="gaunt, gaunt:R, shared or cg")
    parser.add_argument("target", help="cg, gaunt, gaunt:R or shared/cp")
    parser.add_argument("--irreps", default="16x0e+16x1o+16x2e", help="of the first operand")
    parser.add_argument("--edge", default="0e+1o+2e", help="irreps of the second operand")
    parser.add_argument("--out-irreps", default=None, help="outputs kept; default: every one")
    parser.add_argument("--rank", type=int, help="of shared/cp; default: exact")
    parser.add_argument(
        "--weights", metavar="FILE.safetensors",
        help="tensor 'weights' [..., columns of the source]; default: random ones",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE.safetensors", help="converted weights")


def run(args: argparse.Namespace) -> dict:
    """Print the measured error; returns it."""
    import torch
    from safetensors.torch import save_file

    from tpcalc.analysis.convert import convert
    from tpcalc.tensor_products import parse_variant, tensor_product

    name, terms = args.target, 1
    if name.startswith("gaunt"):
        terms = parse_variant(f"{name}/grid")[1].get("terms", 1)
        name = "gaunt"
    source = tensor_product(f"{args.source}/reference", args.irreps, args.edge, args.out_irreps)
    if args.weights:
        weights = _read(args.weights, source.weight_numel)
    else:
        weights = torch.randn(4, source.weight_numel, dtype=torch.float64)
    found = convert(source, weights, name, terms=terms, rank=args.rank)
    if args.output:
        save_file({"weights": found.weights.to(weights.dtype).contiguous()}, args.output)
    result = {
        "source": args.source, "target": args.target, "error": found.error,
        "source_weights": source.weight_numel, "target_weights": found.product.weight_numel,
        "irreps_out": str(found.product.irreps_out), "output": args.output,
    }  # fmt: skip
    if not args.json:
        print(
            f"{args.source} -> {args.target}: relative error of the map {found.error:.1e} "
            f"({source.weight_numel} weights -> {found.product.weight_numel})"
        )
    return result


def _read(path: str, columns: int):
    from pathlib import Path

    from safetensors.torch import load_file

    from tpcalc.errors import InputError

    if not Path(path).is_file():
        raise InputError(f"no file {path}")
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises its own type
        raise InputError(f"{path} is not a safetensors file ({error})") from error
    weights = tensors.get("weights")
    if weights is None or weights.dim() == 0 or weights.shape[-1] != columns:
        shape = None if weights is None else tuple(weights.shape)
        raise InputError(f"{path}: 'weights' has shape {shape}; the last axis must be {columns}")
    return weights
