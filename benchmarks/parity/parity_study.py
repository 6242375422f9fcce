"""What the study consists of: the runs of its file `parity_study.toml`."""

import dataclasses
import hashlib
import json
import tomllib
from pathlib import Path

REFERENCE = "float32"
#: winograd_4x4 is the noisiest algorithm that `algorithm="auto"` chooses from; alone, it runs
#: wherever it can.
POLICIES = (REFERENCE, "dfp16", "dfp16(algorithm=winograd_4x4)")
STUDY_FILE = Path(__file__).with_name("parity_study.toml")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        name: str, name of the network, or of the number format in the ablation.
        policy: a policy as `dfpkeras train --policy` takes it, without `number_format`.
        seed: int, seed of weights, order of the images and augmentation.
        options: dict of options of `dfpkeras train`, as in the study's file.
        number_format: dict of arguments of `dfpkeras.DFP16Policy`, empty for the default.
    """

    name: str
    policy: str
    seed: int
    options: dict
    number_format: dict = dataclasses.field(default_factory=dict)

    @property
    def dtype_policy(self):
        """The policy with its number format, as `dfpkeras train --policy` takes it."""
        arguments = ", ".join(f"{name}={value}" for name, value in self.number_format.items())
        return f"{self.policy}({arguments})" if arguments else self.policy

    @property
    def recipe(self):
        """Eight hexadecimal digits that change with the options and the number format."""
        contents = json.dumps([self.options, self.number_format], sort_keys=True)
        return hashlib.sha256(contents.encode()).hexdigest()[:8]

    @property
    def key(self):
        """What identifies the run."""
        return self.name, self.policy, self.seed, self.recipe

    @property
    def directory_name(self):
        return f"{self.name}-{self.policy}-seed{self.seed}-{self.recipe}"


def read_study(path=STUDY_FILE):
    """Returns the study's file as a dict."""
    with open(path, "rb") as file:
        return tomllib.load(file)


def network_runs(study, seeds, networks=None):
    """Returns the `Run`s of all policies, seed by seed, so that a study ended early is balanced.

    Args:
        study: what `read_study` returned.
        seeds: sequence of int.
        networks: names of those to train; None for all.

    Raises:
        ValueError: there is no such network.
    """
    known = study["networks"]
    unknown = [name for name in networks or () if name not in known]
    if unknown:
        raise ValueError(f"networks: expected some of {', '.join(known)}; got {unknown[0]!r}")
    return [
        Run(name, policy, seed, train_options(study, known[name]))
        for seed in seeds
        for name in networks or known
        for policy in POLICIES
    ]


def ablation_runs(study, seeds):
    """Returns the `Run`s of float32 and of dfp16 in every number format, seed by seed."""
    options = train_options(study, study["ablation"])
    formats = number_formats()
    return [
        run
        for seed in seeds
        for run in (
            Run("float32", "float32", seed, options),
            *(Run(name, "dfp16", seed, options, formats[name]) for name in formats),
        )
    ]


BITS = tuple(range(15, 6, -1))
# Those of dfpkeras.kernels.number_format, whose import would take some seconds.
DEFAULT_BITS = {"activation": 14, "weight": 12, "gradient": 15}
UNIFORM_BITS = (13, 11, 10, 9, 8, 7)
FLUSH_INTERVALS = (2, 8, 32, 128, 512)


def number_formats():
    """Returns the number formats of the ablation, by name: dicts for `DFP16Policy`.

    The bits of each role change one by one, the others keep the default; with two roundings, all
    change together.
    """
    formats = {"default": {}}
    for role, default in DEFAULT_BITS.items():
        others = [bits for bits in BITS if bits != default]
        formats |= {f"{role} {bits}": {f"{role}_bits": bits} for bits in others}
    for bits in UNIFORM_BITS:
        every = {f"{role}_bits": bits for role in DEFAULT_BITS}
        formats[f"nearest {bits}"] = every
        formats[f"stochastic {bits}"] = every | {"rounding": "stochastic"}
    formats |= {f"flush {interval}": {"flush_every": interval} for interval in FLUSH_INTERVALS}
    return formats


def train_options(study, values):
    """Returns the options of `dfpkeras train`; `data` becomes the name of a prepared directory.

    Args:
        study: what `read_study` returned.
        values: dict, the network's own options, which override the common ones.
    """
    data = study["data"][values["data"]]
    prepared = {"data": data_name(values["data"], data), "classes": data["classes"]}
    return study["common"] | values | prepared


def data_name(name, data):
    """Returns the name of the directory of a data set, which states the number of its images."""
    return f"{name}-{data['train_images']}-{data['test_images']}"
