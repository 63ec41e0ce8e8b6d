"""The documentation names all there is, and what it shows runs."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import attrs
import click
import pytest

from llem.cli import cli
from llem.cli.settings import flag_layers
from llem.config.layers import Layer
from llem.config.load import resolve
from llem.config.models import Experiment
from llem.findings import FINDINGS, REASONS
from llem.plugins.registry import registry
from llem.plugins.specs import Hooks

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *REPOSITORY.glob("llem-*/README.md"),
    ]
)
PYTHON = re.compile(r"^```python[^\n]*\n(.*?)^```", re.M | re.S)
WITH_PYTHON = [page for page in PAGES if PYTHON.search(page.read_text(encoding="utf-8"))]


SETTINGS = "".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference" / "settings").glob("*.md")))


def _reference(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def _commands(path: str, command: click.Command) -> list[str]:
    if command.hidden:
        return []
    inner = command.commands.items() if isinstance(command, click.Group) else ()
    return [path, *(found for name, child in inner for found in _commands(f"{path} {name}", child))]


def _generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current(capsys):
    """The reference pages are what the code would write now; where not, the command that writes them is named."""
    assert _generate().main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("hook", sorted(name for name in vars(Hooks) if name.startswith("llem_")))
def test_hook_is_documented(hook):
    """Each hook has a heading and its signature on the page of hooks."""
    assert f"## `{hook}`" in _reference("hooks.md")
    assert f"\n{hook}(" in _reference("hooks.md")


@pytest.mark.parametrize("code", sorted({*FINDINGS, *REASONS}))
def test_code_is_documented(code):
    """Each finding code and each reason code has a row."""
    assert f"| `{code}` |" in _reference("findings.md")


@pytest.mark.parametrize("command", _commands("llem", cli))
def test_command_is_documented(command):
    """Each command has a heading."""
    assert f"## `{command}`\n" in _reference("commands.md")


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Experiment) if "option" not in field.name])
def test_setting_is_documented(field):
    """Each field of an experiment, or those of the section it is, has a row."""
    assert re.search(rf"^\| `{field}[`.]", SETTINGS, re.M)


def test_each_setting_has_an_anchor():
    """Each row of a table of settings has an anchor, and none is twice on a page, so that a link leads to one row."""
    rows = re.findall(r"^\| `.*", SETTINGS, re.M)
    assert len(rows) > 390
    assert [row for row in rows if not re.match(r"\| `[^`]+`(<a id=\"[\w-]+\"></a>)? \|", row)] == []
    for page in (DOCS / "reference" / "settings").glob("*.md"):
        anchors = re.findall(r'<a id="([\w-]+)"></a>', page.read_text(encoding="utf-8"))
        assert len(anchors) == len(set(anchors)), page.name


def test_a_page_of_settings_that_nothing_makes_is_out_of_date(tmp_path, monkeypatch, capsys):
    """A backend that is gone leaves no page: `--check` names it, and writing removes it."""
    module = _generate()
    monkeypatch.setattr(module, "REFERENCE", tmp_path)
    assert module.main([]) == 0
    (tmp_path / "settings" / "gone.md").write_text("old")

    assert module.main(["--check"]) == 1
    assert "settings/gone.md" in capsys.readouterr().err
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0


@pytest.mark.process
@pytest.mark.parametrize("page", WITH_PYTHON, ids=[str(page.relative_to(REPOSITORY)) for page in WITH_PYTHON])
def test_python_on_page_runs(page, isolated_llem, monkeypatch):
    """The Python blocks of a page run, one after the other, as one program."""
    text = page.read_text(encoding="utf-8")
    name = "documented_" + page.stem.replace("-", "_")
    module = type(sys)(name)  # a real module, for attrs resolves annotations by a class's module
    monkeypatch.setitem(sys.modules, name, module)
    for block in PYTHON.finditer(text):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block.group(1), str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_llem_commands_on_page_exist(page):
    """Each `llem COMMAND` in a shell block is a command, with options that it has."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh[^\n]*\n(.*?)^```", text, re.M | re.S):
        for line in re.findall(r"(?:^|&& )llem ([^&|>#\n]*)", block, re.M):
            words = line.split()
            command: click.Command | None = cli
            while words and isinstance(command, click.Group) and not words[0].startswith("-"):
                command = command.commands.get(words.pop(0))
                assert command is not None, f"no command: llem {line}"
            assert command is not None
            known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
            asked = {word.split("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
            assert asked <= known, f"llem {line}: {asked - known}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])
def test_settings_in_commands_on_page_are_settings(page):
    """What `-m`, `-b`, `--preset` and `--set` of a `llem run` without a study say is accepted as one experiment."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    for line in re.findall(r"(?:^|&& |\$ )llem run ([^&|>\n]*)", "\n".join(blocks), re.M):
        with cli.commands["run"].make_context("run", shlex.split(line, comments=True)) as context:
            given = context.params
        if given["study"] is not None:
            continue
        flags = flag_layers(given["model"], given["backend"], given["preset"], given["assignments"])
        named = [name for name in registry().names("backend") if f"--set {name}." in line]
        resolve([Layer("page", {"backend": (*named, "echo")[0]}), *flags], registry())


def test_readme_commands_are_what_continuous_integration_runs():
    """The README's test command stands in `.ci/run`, and its first command is marked for the session `demo`."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    demo = readme.split("<!-- begin demo -->")[1].split("<!-- end demo -->")[0]
    tests = readme.split("<!-- begin tests -->")[1].split("<!-- end tests -->")[0]
    command = re.findall(r"```sh\n(.*?)\n```", tests, re.S)[0]

    assert "llem run" in demo
    assert command in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert '_readme_commands("demo")' in (REPOSITORY / "noxfile.py").read_text(encoding="utf-8")


def test_each_package_is_in_the_readme():
    """The README's table has every package."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")

    for project in REPOSITORY.glob("llem-*/pyproject.toml"):
        assert f"| `{project.parent.name}` |" in readme
