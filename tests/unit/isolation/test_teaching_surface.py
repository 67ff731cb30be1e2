"""labkit.isolation: one function for each primitive, on the process that calls it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from labkit import isolation
from labkit.base.errors import InvalidParameter

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def in_a_process_of_its_own(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"from labkit import isolation\nimport os\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_every_function_cites_its_manual_page() -> None:
    for name in isolation.__all__:
        thing = getattr(isolation, name)
        if callable(thing):
            assert "(2)" in thing.__doc__ or "(5)" in thing.__doc__ or "(7)" in thing.__doc__, name


def test_what_does_not_exist_is_named_with_what_does() -> None:
    with pytest.raises(InvalidParameter, match="'time'"):
        isolation.unshare("time")
    with pytest.raises(InvalidParameter, match="'slow'"):
        isolation.mount("a", "b", flags=["slow"])


def test_a_process_knows_its_namespaces_and_groups() -> None:
    own = isolation.namespaces()
    assert own == isolation.namespaces(os.getpid())
    assert set(own) == set(isolation.NAMESPACES)
    assert isinstance(isolation.cgroups(), dict)
    assert (
        isolation.capabilities()["effective"]
        == isolation.confinement()["capabilities"]["effective"]
    )


def test_the_default_policy_refuses_mount_and_says_who_may() -> None:
    assert isolation.seccomp_verdict("mount")["capabilities"] == ["CAP_SYS_ADMIN"]
    assert isolation.seccomp_verdict("mount", capabilities=["sys_admin"])["allowed"]
    assert isolation.seccomp_verdict("mount", profile="unconfined")["allowed"]


@pytest.mark.root
@pytest.mark.namespaces
def test_a_name_of_its_own_and_a_visit_to_another() -> None:
    said = in_a_process_of_its_own(
        "before = isolation.namespaces()['uts']\n"
        "isolation.unshare('uts'); isolation.sethostname('box')\n"
        "print(os.uname().nodename, before != isolation.namespaces()['uts'])\n"
        "isolation.setns(os.getppid(), 'uts')\n"
        "print(before == isolation.namespaces()['uts'])"
    )
    assert said == "box True\nTrue"


@pytest.mark.root
def test_a_capability_given_up_is_out_of_reach() -> None:
    said = in_a_process_of_its_own(
        "isolation.drop_capabilities('net_raw')\n"
        "print('CAP_NET_RAW' in isolation.capabilities()['bounding'])\n"
        "isolation.no_new_privileges()\n"
        "print(isolation.confinement()['no_new_privs'])"
    )
    assert said == "False\nTrue"
