"""Numbers of devices for tests whose result must not depend on it; the fewer ones are slow."""

import pytest

DEVICES = [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4)), 8]
