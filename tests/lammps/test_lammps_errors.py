"""Bad input ends with one sentence that names the value, the rule and the cure."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from ase.io import write
from decks import head, molecule_in_vacuum
from tpcalc.lammps.run import command, run_deck

from small import SPECIES, crystal


def edited(source, target, manifest=None, code=None):
    """A copy of an exported file with changed manifest entries or replaced words in its code."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("extra/manifest.json") and manifest:
                data = json.dumps({**json.loads(data), **manifest}).encode()
            if item.filename.endswith(".py") and code:
                data = data.replace(code[0].encode(), code[1].encode())
            new.writestr(item.filename, data)
    return target


def bad_files(good: Path, folder: Path) -> dict[str, str]:
    """File name -> what must be said about it."""
    content = good.read_bytes()
    (folder / "junk.pt").write_bytes(b"no potential at all")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "half.pt").write_bytes(content[: len(content) // 2])
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), folder / "foreign.pt")
    edited(good, folder / "old.pt", {"torch": "2.5.1"})
    edited(good, folder / "units.pt", {"units": "real"})
    edited(good, folder / "format.pt", {"format": "tpcalc-9"})
    edited(good, folder / "cutoff.pt", {"cutoff": -1})
    op = "ops.tpcalc.halo_exchange"
    edited(good, folder / "op.pt", code=(op, "ops.tpcalc.halo_nothing"))
    edited(good, folder / "evil.pt", code=(op, "ops.evil.system"))
    return {
        "absent.pt": "cannot read the potential 'absent.pt'; make it with `tpcalc export",
        "junk.pt": "cannot use 'junk.pt': it is no whole TorchScript archive",
        "empty.pt": "cannot use 'empty.pt': it is no whole TorchScript archive",
        "half.pt": "cannot use 'half.pt': it is no whole TorchScript archive",
        "foreign.pt": "cannot use 'foreign.pt': it has no manifest.json",
        "old.pt": "it was exported with torch 2.5.1 and this plugin was built for torch 2.",
        "units.pt": "its units are 'real', expected 'metal'",
        "format.pt": "its format is 'tpcalc-9' and this plugin reads 'tpcalc-torchscript-1'",
        "cutoff.pt": "its cutoff is -1",
        "op.pt": "it needs the operator tpcalc::halo_nothing, which this plugin does not carry",
        "evil.pt": "its code calls the foreign operator evil::system",
    }


def bonded(folder):
    """A data file with bonds, atom_style bond."""
    atoms = molecule_in_vacuum()
    write(folder / "plain.data", atoms, format="lammps-data", specorder=SPECIES, masses=True)
    lines = (folder / "plain.data").read_text().splitlines()
    start = lines.index("Atoms # atomic") + 2
    for k in range(start, start + 9):
        words = lines[k].split()
        lines[k] = " ".join([words[0], "1", *words[1:]])
    lines[start - 2] = "Atoms # bond"
    lines.insert(3, "1 bonds\n1 bond types")
    lines += ["", "Bonds", "", "1 1 1 2", ""]
    (folder / "bonded.data").write_text("\n".join(lines))


def all_cases(good: Path, folder: Path) -> dict[str, tuple[str, str]]:
    """Name -> (deck, what LAMMPS must say about it; "" for a deck that runs)."""
    deck = head(crystal(), good, folder)
    cases = {f: (deck.replace(str(good), f), text) for f, text in bad_files(good, folder).items()}
    style, last = "pair_style tpcalc", f"pair_coeff * * {good} H C O"

    def case(name, sentence, old="", new="", end=""):
        cases[name] = (deck.replace(old, new) + end, sentence)

    case("lj", "units are 'lj'; they must be metal, real, electron or si", "metal", "lj")
    case("keyword", "unknown keyword 'dtyp'; known: dtype", style, style + " dtyp float32")
    case("value", "keyword 'dtype' has no value", style, style + " dtype")
    case("type", "dtype 'float16' must be float32 or float64", style, style + " dtype float16")
    case("other", "dtype float32 was asked for and", style, style + " dtype float32")
    case("device", "device 'gpu' must be cpu or cuda", style, style + " device gpu")
    if not torch.cuda.is_available():
        case("cuda", "device cuda was asked for and torch", style, style + " device cuda")
    case("threads", "threads is 0; it must be at least 1", style, style + " threads 0")
    case("element", "does not know element 'Xx' of atom type 2; it knows: H C O", "H C O", "H Xx O")
    case("few", "2 element names given for 3 atom types", "H C O", "H C")
    case("null", "NULL for atom type 2 needs pair_style hybrid", "H C O", "H NULL O")
    case("stars", "Pair_coeff must start with * * for pair style tpcalc", "* * ", "1 2 ")
    case("newton", "newton pair is off; it must be on", "units", "newton off\nunits", "run 0\n")
    case("exclude", "neigh_modify exclude removes neighbors that the potential counts on",
         end="neigh_modify exclude type 1 2\nrun 0\n")  # fmt: skip
    case("skin", "the neighbor skin is 30, more than five cutoffs", end="neighbor 30 bin\nrun 0\n")
    case("tiled", "with 'comm_style tiled' the box must be wider than the ghost cutoff 6 (cutoff "
         "4 + skin 2, or comm_modify cutoff), and it is 3.",
         end="comm_style tiled\nrun 0\n")  # fmt: skip
    case("tiled ghosts", "the ghost cutoff 9 (cutoff 4 + skin 0.5, or comm_modify cutoff), and",
         end="comm_style tiled\ncomm_modify cutoff 9\nneighbor 0.5 bin\nrun 0\n")  # fmt: skip
    case("nan", "Check the structure and the timestep",
         end="set atom 1 x 1.0 y 1.0 z 1.0\nset atom 2 x 1.0 y 1.0 z 1.0\nrun 0\n")  # fmt: skip
    bonded(folder)
    bonds = "atom_style bond\nbond_style zero"
    bonded_deck = deck.replace("atoms.data", "bonded.data").replace("atom_style atomic", bonds)
    cases["special"] = (
        bonded_deck + "bond_coeff 1\nrun 0\n",
        "special_bonds is 0 for 1-2 neighbors, which removes them from the neighbor list; "
        "use 'special_bonds lj/coul 1 1 1'",
    )
    cases["special ok"] = (
        bonded_deck + "bond_coeff 1\nspecial_bonds lj/coul 1 1 1\nrun 0\n", "",
    )  # fmt: skip
    case("good", "", end="run 0\n")
    assert last in deck
    return cases


@pytest.fixture(scope="module", params=[1, 2], ids=["1 rank", "2 ranks"])
def said(request, exported, tmp_path_factory):
    """(what each rank said per case, what it must say), all decks in one foreign process a rank."""
    folder = tmp_path_factory.mktemp("errors")
    cases = all_cases(exported(), folder)
    if request.param > 1:
        del cases["nan"]  # one rank alone finds it and aborts the others, Python included
    (folder / "decks.json").write_text(json.dumps([text for text, _ in cases.values()]))
    start = command(request.param)[:-1]  # mpirun -np N, without lmp
    call = [*start, sys.executable, str(Path(__file__).with_name("in_process.py")), str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    files = [folder / f"said.{rank}.json" for rank in range(request.param)]
    assert all(f.exists() for f in files), done.stderr[-3000:] + done.stdout[-3000:]
    ranks = [dict(zip(cases, json.loads(f.read_text()))) for f in files]
    return ranks, {key: sentence for key, (_, sentence) in cases.items()}


def test_every_error_is_said_by_every_rank(said):
    """`error->all`: no rank is left behind, none crashes, and the next deck runs."""
    ranks, sentences = said
    for answers in ranks:
        wrong = {
            key: (sentence, answers[key])
            for key, sentence in sentences.items()
            if (sentence not in answers[key]) or bool(sentence) != bool(answers[key])
        }
        assert not wrong
        assert len(answers) > 25


@pytest.mark.parametrize("what", ["absent.pt", "element", "newton"])
def test_all_ranks_stop(what, exported, tmp_path):
    """Two real ranks: a sentence and a return code, no hang and no crash."""
    good = exported()
    deck = head(crystal(), good, tmp_path) + "run 0\n"
    old, new = {
        "absent.pt": (str(good), "absent.pt"), "element": ("H C O", "H Xx O"),
        "newton": ("units", "newton off\nunits"),
    }[what]  # fmt: skip
    run = run_deck(deck.replace(old, new), ranks=2, folder=tmp_path, check=False, timeout=60)
    assert run.returncode not in (0, -1)
    assert "Pair style tpcalc:" in run.error


def test_not_built_is_said_and_breaks_nothing(tmp_path, monkeypatch, capfd):
    from tpcalc.lammps import plugin_path

    monkeypatch.setenv("TPCALC_CACHE", str(tmp_path))
    assert not Path(plugin_path.plugin_directory()).exists()
    assert "run `tpcalc build`" in capfd.readouterr().err
    monkeypatch.setattr(plugin_path.metadata, "version", lambda name: 1 / 0)
    assert isinstance(plugin_path.plugin_directory(), str)
    assert "not available" in capfd.readouterr().err
