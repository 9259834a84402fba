"""Two ways to the same driver: directly, and through sconce. `tests/spark/run` starts the drivers and says where they are.

A test that compares takes `both`; one that bends sconce itself takes `door_to` and makes its own sconce.
"""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts" / "lib"))
import rig  # noqa: E402
from client import connect, outcome  # noqa: E402
from cutter import Cutter  # noqa: E402

DRIVER = os.environ["SCONCE_TEST_DRIVER"]
EXIT = pytest.StashKey[int]()
OTHER_DRIVER = os.environ.get("SCONCE_TEST_OTHER_DRIVER", DRIVER)
PROOF = pathlib.Path(os.environ["SCONCE_TEST_PROOF"])


def pytest_collection_modifyitems(items: list) -> None:
    """Tests that leave clients before a dead sconce come last: PySpark ends all sessions' releases in one pool."""
    last = ["test_proof.py", "test_door.py", "test_oidc.py"]
    items.sort(key=lambda item: last.index(item.path.name) if item.path.name in last else -1)


def pytest_sessionfinish(session, exitstatus) -> None:
    session.config.stash[EXIT] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config) -> None:
    """Ends now: Python would wait for PySpark's threads, which still try to release what a dead sconce held."""
    rig.stop_all()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(config.stash.get(EXIT, 1))


@pytest.fixture(scope="session")
def driver() -> str:
    """Address of the driver of team ads."""
    return DRIVER


@pytest.fixture(scope="session")
def other_driver() -> str:
    """Address of the driver of team ml."""
    return OTHER_DRIVER


@pytest.fixture(scope="session")
def door(tmp_path_factory) -> rig.Sconce:
    """The sconce that most tests share: team ads and team ml, no default."""
    sconce = rig.Sconce(tmp_path_factory.mktemp("door"), {"ads": DRIVER, "ml": OTHER_DRIVER})
    yield sconce
    alive = sconce.alive()
    sconce.stop()
    assert alive, "sconce died during the tests"


@pytest.fixture(scope="session")
def proof() -> rig.Proof:
    """A certificate that every client of this run trusts, and the key that signs tokens. Copy it before an edit."""
    return rig.Proof(PROOF)


@pytest.fixture(scope="session")
def proved(proof, tmp_path_factory) -> rig.Sconce:
    """The same teams behind a sconce that asks everybody for proof."""
    sconce = rig.Sconce(tmp_path_factory.mktemp("proved"), {"ads": DRIVER, "ml": OTHER_DRIVER}, proof=proof)
    yield sconce
    alive = sconce.alive()
    sconce.stop()
    assert alive, "sconce died during the tests"


@pytest.fixture
def door_to(tmp_path):
    """Makes a sconce for one test: `door_to({"ads": address}, default_team=..., settings=...)`."""
    made = []

    def make(teams: dict, **more) -> rig.Sconce:
        made.append(rig.Sconce(tmp_path / f"door-{len(made)}", teams, **more))
        return made[-1]

    yield make
    for sconce in made:
        sconce.stop()


@pytest.fixture
def cutter_to():
    """Makes a breakable relay for one test."""
    made = []

    def make(address: str) -> Cutter:
        made.append(Cutter(address))
        return made[-1]

    yield make
    for cutter in made:
        cutter.close()


class Both:
    """The same call made directly and through sconce, each in a new session."""

    def __init__(self, through: str):
        self.urls = {"direct": f"sc://{DRIVER}/", "through": through}

    def same(self, case, options: dict | None = None) -> dict:
        """Runs `case(session)` both ways and returns the outcome, which must be one."""

        def one(url: str):
            session = connect(url, options)
            try:
                return case(session)
            finally:
                session.stop()

        return self.same_at(one)

    def same_at(self, case) -> dict:
        """The same for a case that connects by itself: `case(url)`."""
        told = {way: outcome(lambda url=url: case(url)) for way, url in self.urls.items()}
        assert told["through"] == told["direct"]
        return told["through"]


@pytest.fixture
def both(door) -> Both:
    return Both(door.url("ads"))
