"""What the coverage page says: nearly all parameters are reached, and each by what its note names."""

from __future__ import annotations

import importlib
import re

import attrs
import pytest

from llem.backends.coverage import REACHES, Coverage, Parameter, reached_share

#: Backend to its package and its section's class.
BACKENDS = {
    "pytorch": ("llem_pytorch", "PyTorchOptions"),
    "tensorrt": ("llem_tensorrt", "TensorRTOptions"),
    "vllm": ("llem_vllm", "VllmOptions"),
}


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Name, options and coverage of a backend; none of them needs its engine."""
    package, options = BACKENDS[request.param]
    pytest.importorskip(package)
    found = importlib.import_module(f"{package}.coverage").parameters()
    return request.param, getattr(importlib.import_module(f"{package}.config"), options), found


def test_parameters_are_reached(backend):
    """At least 95 of 100 parameters of each engine can be set."""
    _, _, found = backend
    assert found.parameters
    assert reached_share(found.parameters) >= 0.95


def test_notes_name_settings(backend):
    """What is typed or extra names a setting that there is; all the rest says through what, or why not."""
    name, options, found = backend
    fields = {field.name for field in attrs.fields(options)}
    for one in found.parameters:
        assert one.reach in REACHES
        assert one.note, one
        if one.reach in ("typed", "extra"):
            assert re.findall(rf"`{name}\.(\w+)", one.note)[0] in fields, one


def test_no_parameter_twice(backend):
    """Each parameter of an owner has one row."""
    names = [(one.owner, one.name) for one in backend[2].parameters]
    assert len(names) == len(set(names))


def test_reference_leads_to_the_coverage(backend):
    """The plugin's reference names the function."""
    package = BACKENDS[backend[0]][0]
    [reference] = importlib.import_module(f"{package}.hooks").llem_backends()
    assert reference.parameters == f"{package}.coverage:parameters"


def test_share():
    """Refused ones count against the share; what is fixed or gone counts for neither side."""
    reaches = ("typed", "derived", "extra", "refused", "fixed", "gone")
    listed = [Parameter("Owner", reach, reach) for reach in reaches]
    assert reached_share(listed) == 0.75
    assert reached_share(listed[4:]) == 1.0
    assert Coverage("engine 1", tuple(listed)).owners() == ("Owner",)
