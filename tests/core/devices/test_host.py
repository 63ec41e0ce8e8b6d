"""Probes of the host, against made file trees and made answers of programs."""

from __future__ import annotations

import sys

import pytest

from llem.devices.host import Answer, Docker, Slurm, ask_program, probe_docker, probe_host, probe_slurm

HERE = "/usr/bin/{}".format


def _tree(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def _ask(**answers):
    """A stand-in for programs: the second word of the command names the answer."""
    return lambda command: answers[command[1].lstrip("-")]


def test_host_reads_processor_governor_and_container(tmp_path):
    """Processor, governor, operating system, virtual machine and container are read off the files."""
    cpuinfo = "processor\t: 0\nmodel name\t: Xeon 9\nflags\t\t: fpu vme hypervisor\n"
    root = _tree(
        tmp_path,
        proc__cpuinfo=cpuinfo,
        sys__devices__system__cpu__cpu0__cpufreq__scaling_governor="powersave\n",
    )
    (root / ".dockerenv").touch()
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('NAME="X"\nPRETTY_NAME="Xinux 3"\n')

    host = probe_host(root, {})

    assert (host.cpu, host.governor, host.system) == ("Xeon 9", "powersave", "Xinux 3")
    assert (host.container, host.virtual) == ("docker", True)


@pytest.mark.process  # `platform` asks the program uname, once in a process
def test_host_without_any_file_tells_none(tmp_path):
    """On a system without these files the facts are None, and nothing raises."""
    host = probe_host(tmp_path, {})

    assert (host.governor, host.container, host.virtual) == (None, None, False)
    assert host.memory_bytes > 0


@pytest.mark.process  # `platform` asks the program uname, once in a process
def test_host_knows_apptainer_by_its_variable(tmp_path):
    """Apptainer leaves no file and sets a variable."""
    assert probe_host(tmp_path, {"APPTAINER_CONTAINER": "/x.sif"}).container == "apptainer"


@pytest.mark.process
def test_program_that_is_not_there_hangs_or_fails_is_an_answer():
    """A missing, a hanging and a failing program each give an answer instead of an exception."""
    missing = ask_program(["no-such-program-here"])
    hanging = ask_program([sys.executable, "-c", "import time; time.sleep(30)"], timeout_s=0.2)
    failing = ask_program([sys.executable, "-c", "import sys; sys.exit('no')"])

    assert missing.status is None
    assert "no-such-program-here" in missing.error
    assert hanging.status is None
    assert "did not answer within 0.2 s" in hanging.error
    assert failing == Answer(1, "", "no")


def test_docker_client_without_daemon():
    """A client whose daemon does not answer has no server, and the daemon's words as the error."""
    answer = Answer(1, "null", "Cannot connect to the Docker daemon. Is it running?\nmore")

    docker = probe_docker(_ask(version=answer), HERE)

    assert docker == Docker(True, error="Cannot connect to the Docker daemon. Is it running?")


def test_docker_with_daemon_and_nvidia_runtime():
    """The daemon's version and the NVIDIA runtime are read from its own answers."""
    version = Answer(0, '{"Version": "28.2", "Components": [{"Name": "Engine"}]}', "")
    info = Answer(0, '{"nvidia": {}, "runc": {}}', "")

    assert probe_docker(_ask(version=version, info=info), HERE) == Docker(True, "28.2", "docker", True)


def test_podman_that_answers_as_docker_is_told_apart():
    """Podman behind Docker's client is named, because exit codes and GPUs are lost there."""
    version = Answer(0, '{"Version": "4.3", "Components": [{"Name": "Podman Engine"}]}', "")

    docker = probe_docker(_ask(version=version, info=Answer(0, "{}", "")), HERE)

    assert (docker.engine, docker.nvidia) == ("podman", False)


def test_no_docker():
    """Without a `docker` program nothing is asked."""
    assert probe_docker(which=lambda _: None) == Docker(client=False)


def test_slurm_with_partitions_and_without_controller():
    """Partitions come from `sinfo`; a controller that does not answer is told with its error."""
    version = Answer(0, "slurm 22.05", "")
    up = _ask(version=version, noheader=Answer(0, "gpu*\ncpu\ngpu*", ""))
    down = _ask(version=version, noheader=Answer(1, "", "Unable to contact slurm controller"))

    assert probe_slurm(up, HERE) == Slurm(True, "slurm 22.05", ("gpu*", "cpu"))
    assert probe_slurm(down, HERE) == Slurm(True, "slurm 22.05", error="Unable to contact slurm controller")
    assert probe_slurm(which=lambda _: None) == Slurm(installed=False)
