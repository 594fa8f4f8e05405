"""Who may not come in is told so: forged forms, wrong verbs, people who are signed out, and too much at once."""

import pytest

from tests.parley import Client, free_port, until
from tests.route_table import APP_ROUTES
from tests.test_bad_input import assert_partial, assert_refused
