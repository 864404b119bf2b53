import pytest

from dit.diffusion.config import MeanFlowLoss
from dit.errors import ConfigError
from dit.sampling.config import GRIDS, LikelihoodConfig, SamplingConfig, changed, from_first_format, is_first_format
from dit.sampling.solvers import SOLVERS
from dit.validation import validate

FIRST_FORMAT = {
    "solver": "heun", "steps": 4, "grid": "auto", "times": None, "t_start": None, "t_end": 0.002, "rho": 5.0,
    "shift": 2.0, "guidance": 1.5, "guidance_schedule": "constant", "guidance_power": 3.0, "eta": 0.5,
    "variance": "upper", "diffusion": "forward", "diffusion_scale": 0.5, "cache": "off", "cache_interval": 3,
    "tolerance": 1e-3,
}  # fmt: skip


def read(values, changes=()):
    return validate(SamplingConfig, changed(read(values), changes) if changes else values, origin="r.yaml")


def message(values, changes=()):
    with pytest.raises(ConfigError) as error:
        read(values, changes)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix("r.yaml: ")


def test_a_name_is_short_for_a_solver_or_a_grid_without_further_options():
    assert read({"solver": "ddim", "grid": "karras"}) == read({"solver": {"name": "ddim"}, "grid": {"name": "karras"}})
    assert read({"solver": "ddim"}).solver == SOLVERS["ddim"].options(name="ddim", eta=0.0)
    config = read({"solver": {"name": "ddim", "eta": 0.5}, "grid": {"name": "karras", "rho": 3}})
    assert read(config.model_dump(mode="json")) == config
    assert (config.solver.eta, config.grid.rho) == (0.5, 3)


@pytest.mark.parametrize("text", ["0.1,0.8", "0.1, 0.8", "[0.1,0.8]"])
def test_times_may_be_written_without_brackets(text):
    assert read({"guidance_interval": text}).guidance_interval == [0.1, 0.8]
    assert MeanFlowLoss(guidance_interval=text).guidance_interval == (0.1, 0.8)
    assert read({"guidance_steps": "0,4"}).guidance_steps == [0, 4]
    assert message({"guidance_interval": "0.1,"}).startswith("guidance_interval: expected at least 2 values, found")
    assert message({"guidance_interval": "0.1,b"}).startswith("guidance_interval")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"solver": {"name": "heun", "eta": 0.5}}, "solver.eta: unknown key: it belongs to another choice of solver"),
        ({"grid": {"name": "uniform", "rho": 7}}, "grid.rho: unknown key: it belongs to another choice of grid"),
        ({"solver": {"name": "ddim", "eta": 2}}, "solver.eta: expected a value less than or equal to 1, found 2"),
        ({"solver": "magic"}, "solver: expected 'ddpm' or 'ddim' or"),
        ({"solver": {"name": "magic"}}, "solver: expected name 'ddpm' or 'ddim' or"),
        ({"solver": 3}, "solver: expected a name or a mapping with one, found 3"),
        ({"solver": {"eta": 0.5}}, "solver: expected the key name, found none"),
        ({"grid": "list"}, "grid.times: expected a value, found none"),
        ({"grid": {"name": "list", "times": [0.1, 0.5]}}, "grid.times: expected descending times above 0"),
        ({"grid": {"name": "list", "times": [0.5]}}, "grid.times: expected 25 (= steps) times, found 1"),
        ({"guidance_interval": [0.1]}, "guidance_interval: expected at least 2 values, found [0.1] (a list)"),
        (
            {"guidance_interval": [0, 0.1, 1]},
            "guidance_interval: expected at most 2 values, found [0, 0.1, 1] (a list)",
        ),
        ({"guidance_power": 2.0}, "guidance_power: expected only with guidance_schedule power_cosine, found"),
        (
            {"cache_interval": 4},
            "cache_interval: expected only with cache static or taylor or encoder, found cache off",
        ),
    ],
)
def test_what_a_choice_does_not_use_is_refused(values, expected):
    assert message(values).startswith(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tolerance": 1e-3}, "tolerance: expected only with solver dopri5, found solver heun"),
        ({"solver": "dopri5", "steps": 64}, "steps: expected only with solver heun, found solver dopri5"),
    ],
)
def test_what_the_solver_of_a_likelihood_does_not_use_is_refused(values, expected):
    with pytest.raises(ConfigError) as error:
        validate(LikelihoodConfig, values, origin="r.yaml")
    assert str(error.value) == f"r.yaml: {expected}"


@pytest.mark.parametrize(
    "option", [*("eta", "variance", "diffusion", "diffusion_scale", "tolerance"), "t_end", "shift"]
)
def test_an_option_beside_its_solver_is_told_its_place(option):
    home = "grid" if option in ("t_end", "shift") else "solver"
    assert message({option: 0.5}) == f"{option}: unknown key. Did you mean '{home}.{option}'?"


def test_changes_replace_options_with_the_choice_that_they_belong_to():
    own = {"solver": {"name": "ddim", "eta": 0.5}, "cache": "static", "cache_interval": 4}
    assert read(own, {"solver": "heun"}).solver == read({"solver": "heun"}).solver
    assert read(own, {"solver": "ddim", "steps": 3}).solver.eta == 0.5  # it is that one already
    assert read(own, {"solver": {"name": "ddim"}}).solver.eta == 0
    assert read(own, {"solver.eta": 0.7}).solver.eta == 0.7
    assert read({}, {"solver.eta": 0.7, "solver": "ddim"}).solver.eta == 0.7
    assert read(own, {"cache": "off"}).cache_interval == 2
    assert message({}, {"solver.eta": 0.7}).startswith("solver.eta: unknown key")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_the_first_format_gives_each_choice_what_it_uses(solver, grid):
    times = {"times": [0.9, 0.5, 0.3, 0.1]} if grid == "list" else {}
    flat = FIRST_FORMAT | {"solver": solver, "grid": grid} | times
    assert is_first_format(flat)
    config = read(from_first_format(flat))
    newer = {"name", "last_step", "guided_by", "ends_with"}
    used = config.solver.model_dump(exclude=newer) | config.grid.model_dump(exclude=newer)
    assert used == {option: flat[option] for option in used}
    assert (config.solver.name, config.grid.name, config.guidance, config.guidance_power) == (solver, grid, 1.5, 4)
    assert not is_first_format(config.model_dump())
