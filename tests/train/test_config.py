"""The YAML file: every key and type is checked, and the sentence says what to write instead."""

import pytest
from tests.train import tiny
from tpcalc.errors import InputError
from tpcalc.potential import build_potential
from tpcalc.train.config import config_from_dict, config_to_dict, load_config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimiser": {}}, ["'optimiser'", "did you mean 'optimizer'?"]),
        ({"optimizer": {"ema_decy": 0.9}}, ["'optimizer'", "did you mean 'ema_decay'?"]),
        ({"data": {"train": "a.xyz", "force_key": "F"}}, ["did you mean 'forces_key'?"]),
        ({"schedule": {"name": "cosin"}}, ["schedule.name", "did you mean 'cosine'?"]),
        ({"baseline": {"scale": "force_rms"}}, ["did you mean 'forces_rms'?"]),
        ({"max_epochs": "ten"}, ["max_epochs", "int", "'ten'"]),
        ({"batch_size": True}, ["batch_size", "int", "True"]),
        ({"loss": 3}, ["loss", "group of keys", "3"]),
        ({"batch_size": 0}, ["batch_size is 0", "larger than 0"]),
        ({"optimizer": {"ema_decay": 1.0}}, ["ema_decay is 1.0", "[0, 1)"]),
        ({"data": {}}, ["'data.train' is missing"]),
    ],
)
def test_wrong_entries(changes, words):
    with pytest.raises(InputError) as error:
        tiny.config(**changes)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_unknown_key_of_the_potential():
    options = {**tiny.settings()["potential"], "species": ["H"], "hiden_irreps": "4x0e"}
    with pytest.raises(InputError, match="hiden_irreps.*did you mean 'hidden_irreps'"):
        build_potential(options)


def test_file_overrides_and_numbers_yaml_reads_as_text(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("potential: {cutoff: 4.0}\ndata: {train: a.xyz}\noptimizer: {lr: 1e-3}\n")
    config = load_config(path, ["loss.kind=huber", "loss.huber_delta=0.1", "max_minutes=2"])
    assert config.optimizer.lr == 1e-3
    assert (config.loss.kind, config.loss.huber_delta) == ("huber", 0.1)
    assert config.max_minutes == 2.0
    assert config_from_dict(config_to_dict(config)) == config


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("a: [1", [], "is not YAML"),
        ("- 1", [], "must hold `key: value` lines"),
        ("data: {train: a}", ["lr"], "not of the form key=value"),
        ("data: {train: a}", ["data.train.x=1"], "'train' is not a group"),
        ("data: {train: a}", [], "'potential' is missing"),
    ],
)
def test_broken_files(tmp_path, text, overrides, words):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_config(path, overrides)
    assert words in str(error.value)


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match="no training config at"):
        load_config(tmp_path / "no.yaml")
