"""The three files of code in a folder for diffusers: the network, the sampler and the pipeline.

A file's name ends in a hash of its text: diffusers imports the code of all local folders from one place by the file's
name, where two folders with a `transformer.py` each would run one's code on the other's weights.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dit.diffusion.config import ProcessConfig
from dit.errors import ConfigError, DitError
from dit.models.family import Arguments, Family
from dit.sampling.config import SamplingConfig
from dit.sampling.solvers import SOLVERS
from dit.zoo.layouts.standalone.sources import PACKAGE, Assembly

HERE = "dit.zoo.layouts.standalone"
PLAIN = {
    "dit.schema:Section": f"{HERE}.plain",
    "dit.layers.linear:linear": f"{HERE}.plain",
    "dit.layers.linear:linear_gelu": f"{HERE}.plain",
    "dit.layers.attention:attend": f"{HERE}.plain",
}
"""Definitions -> module that has plain forms of them."""
PROCESSES = {
    "flow": "dit.diffusion.flow:FlowProcess",
    "gaussian": "dit.diffusion.gaussian:GaussianProcess",
    "edm": "dit.diffusion.edm:EdmProcess",
    "average_velocity": "dit.diffusion.average_velocity:AverageVelocityProcess",
}
NETWORK_IMPORTS = frozenset(
    {
        ("diffusers.configuration_utils", "ConfigMixin", "ConfigMixin"),
        ("diffusers.configuration_utils", "register_to_config", "register_to_config"),
        ("diffusers.models.modeling_utils", "ModelMixin", "ModelMixin"),
    }
)
NETWORK_READ = frozenset({"forward", "null_class", "condition_names"})
SAMPLER_READ = frozenset({"set_timesteps", "init_noise_sigma", "sample", "order"})
"""What other files of the folder read of it."""
PIPELINE_READ = frozenset({"_optional_components", "model_cpu_offload_seq"})
USUAL_SOLVERS = ("euler", "heun")
PIPELINE = "ClassToImagePipeline"
HEADER = """# Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0
#
# For diffusers alone, written by `dit convert --to diffusers` from the sources of dit-zoo:
# {what}.


"""
MODEL = '''class {name}(ModelMixin, {network}, ConfigMixin):
    """The network as diffusers loads and saves it; for its parameters see `{arguments}`."""

    @register_to_config
    def __init__(
        self,
        *,
{parameters}    ) -> None:
        arguments = {arguments}(
{passed}        )
        {network}.__init__(self, arguments)
'''
SAMPLER = '''class {name}(Sampler):
    """Samples this folder's process, by the solvers that stand here."""

    process_class = {process}
    process_settings = {settings}
    solvers: ClassVar[Mapping[str, tuple[Any, Any]]] = {{
{solvers}    }}
'''


@dataclass(frozen=True)
class CodeFile:
    """A file of code and the class in it that diffusers is to load."""

    module: str
    """Its name without the ending."""
    class_name: str
    text: str


def network_file(family: Family) -> CodeFile:
    """Return the file with a family's network.

    Raises:
        ConfigError: the family is a plugin's.
    """
    if not family.network.startswith(PACKAGE):
        raise ConfigError(f"--to diffusers: expected a network of this package, found {family.name}, a plugin's")
    return _network_file(family.name, family.network, family.arguments)


def network_class_name(family: Family) -> str:
    """Return the name that a family's network has in diffusers."""
    return f"{family.network.rpartition(':')[2]}Model"


@cache
def _network_file(family: str, network: str, arguments: type[Arguments]) -> CodeFile:
    network_class = network.rpartition(":")[2]
    body = Assembly(PLAIN, NETWORK_READ, NETWORK_IMPORTS).text([network])
    wrapper = MODEL.format(
        name=f"{network_class}Model",
        network=network_class,
        arguments=arguments.__name__,
        parameters="".join(f"        {parameter},\n" for parameter in _parameters(arguments)),
        passed="".join(
            f"            {name}={f'tuple({name})' if name == 'input_size' else name},\n"
            for name in arguments.model_fields
        ),
    )
    return _file(family, f"{network_class}Model", f"the network {network_class}", f"{body}\n\n{wrapper}")


def sampler_file(process: ProcessConfig, *samplings: SamplingConfig) -> CodeFile:
    """Return the file that samples a process.

    Args:
        process: the process.
        samplings: settings whose solvers have to be there.

    Raises:
        ConfigError: one of the solvers is a plugin's.
    """
    return _sampler_file(process.name, tuple(sorted({*USUAL_SOLVERS, *(each.solver.name for each in samplings)})))


@cache
def _sampler_file(process: str, solvers: tuple[str, ...]) -> CodeFile:
    place = PROCESSES[process]
    kind, settings = place.rpartition(":")[2], f"{place.rpartition(':')[2].removesuffix('Process')}Config"
    found = {name: _solver(name) for name in solvers}
    roots = [f"{HERE}.sampler:Sampler", place, f"dit.diffusion.config:{settings}", *sum(found.values(), ())]
    body = Assembly(PLAIN, SAMPLER_READ, only_read=True).text(roots)
    names = {name: tuple(each.rpartition(":")[2] for each in pair) for name, pair in found.items()}
    last = SAMPLER.format(
        name=kind.replace("Process", "Sampler"),
        process=kind,
        settings=settings,
        solvers="".join(f'        "{name}": ({solver}, {own}),\n' for name, (solver, own) in names.items()),
    )
    what = f"sampling by the process {process.replace('_', ' ')}"
    return _file(process, kind.replace("Process", "Sampler"), what, f"{body}\n\n{last}")


def _solver(name: str) -> tuple[str, str]:
    """Return where a solver's class and its options are, each module:name."""
    entry = SOLVERS[name]
    if not isinstance(entry.factory, str):
        raise ConfigError(f"--to diffusers: expected a solver of this package, found {name}, a plugin's")
    return f"dit.sampling.solvers.{entry.factory}", f"{entry.options.__module__}:{entry.options.__name__}"


def pipeline_file() -> CodeFile:
    """Return the file with the pipeline."""
    text = Assembly(read=PIPELINE_READ).text([f"{HERE}.pipeline:{PIPELINE}"])
    return _file("pipeline", PIPELINE, "the pipeline", text)


def check_code(folder: Path) -> None:
    """Refuse files of code in a folder that are not as they were written.

    Raises:
        DitError: naming the file.
    """
    for path in sorted(folder.rglob("*.py")):
        found = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        if not path.stem.endswith(f"_{found}"):
            raise DitError(
                f"{path}: expected the code that `dit convert` wrote, by whose hash it is called, found {found}; "
                "convert the model again"
            )


def _file(stem: str, class_name: str, what: str, body: str) -> CodeFile:
    text = HEADER.format(what=what) + body
    return CodeFile(f"{stem}_{hashlib.sha256(text.encode()).hexdigest()[:8]}", class_name, text)


def _parameters(arguments: type[Arguments]) -> list[str]:
    """Return the parameters that stand for a network's arguments, with types and values as in a signature."""
    found = []
    for name, field in arguments.model_fields.items():
        kind = field.annotation.__name__ if field.annotation in (int, float, bool) else "tuple[int, int]"
        found.append(f"{name}: {kind}" + ("" if field.is_required() else f" = {field.default!r}"))
    return found
