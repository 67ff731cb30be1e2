"""The probe and the doctor: quick, honest, and leaving nothing behind."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from labkit.base.paths import LabPaths
from labkit.host.isolation.doctor import examine
from labkit.host.isolation.probe import Probe, probe


def test_probing_changes_nothing(machine: Probe) -> None:
    found = probe()
    assert "probe" not in Path("/proc/self/mountinfo").read_text()
    assert found.mode == machine.mode == ("rootful" if os.geteuid() == 0 else "rootless")
    assert found.attempts["overlay"] == 0 or not found.overlay


def test_without_the_native_core_the_mode_is_hollow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_SHIM", "/no/such/labkit-shim")
    found = probe()
    assert found.mode == "hollow"
    assert not found.reasons[0].ok


def test_every_finding_that_is_not_well_says_what_it_means(paths: LabPaths, machine: Probe) -> None:
    findings = examine(paths, machine)
    names = {finding.name for finding in findings}
    assert {"mode", "kernel", "overlay", "cgroups", "seccomp", "disk", "open files"} <= names
    for finding in findings:
        assert finding.found
        assert finding.ok or finding.meaning, finding


def test_overlays_are_tried_where_the_layers_will_be(paths: LabPaths, machine: Probe) -> None:
    before = sorted(paths.home.iterdir())
    found = probe(paths)
    assert "overlay_home" in found.attempts
    assert found.overlay == (found.attempts["overlay_home"] == 0)
    assert sorted(paths.home.iterdir()) == before


def test_a_home_on_a_file_system_without_room_for_layers_is_told(machine: Probe) -> None:
    refused = dataclasses.replace(
        machine, overlay=False, attempts={**machine.attempts, "overlay": 0, "overlay_home": 22}
    )
    lab = LabPaths(Path("/somewhere"), Path("/run/x"))
    found = next(f for f in examine(lab, refused) if f.name == "overlay")
    assert not found.ok
    assert "LABKIT_HOME" in found.fix
