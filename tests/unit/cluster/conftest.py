"""How long an example takes depends on who else uses the machine, so no test asserts it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("labkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("labkit")
