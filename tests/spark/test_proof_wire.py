"""Nobody acts as somebody else, whatever the messages claim: each method, compressed or not, of each client version.

The judge is the driver: it keeps sessions by user and id, and names each by an id of its own, which comes with
every answer. Asked directly, it believes any claim, and so tells which name is whose.
"""

import uuid
import zlib

import grpc
import pytest
import rig
from client import VERSION
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pyspark.sql.connect.proto import base_pb2 as pb
from raw import SERVICE, Caller, appended, claimed, request

# Older clients know nothing of the server's own ids.
pytestmark = pytest.mark.every_client if VERSION >= (4, 0) else []

# Minutes of work for one core if nobody ends it; the other one is left to whoever comes.
LONG = "SELECT count(*) FROM range(0, 100000000000L, 1, 1) WHERE id % 7 = rand()"
TEAMS = {"ann": "ads", "eve": "ads", "bob": "ml"}
METHODS = [method.name for method in SERVICE.methods]
CLAIMS = {
    "nothing": lambda made, _: made,
    "an empty user": lambda made, _: claimed(made, ""),
    "another user": claimed,
    "another user after all else": appended,
}


class Trio:
    """ann, who owns things, and a stranger, who claims to be ann: both through sconce, and the driver itself."""

    def __init__(self, door, proof, driver: str, other_driver: str):
        self.door, self.proof = door, proof
        self.drivers = {"ads": Caller(driver), "ml": Caller(other_driver)}
        self.callers = {}
        self.session = str(uuid.uuid4())

    def caller(self, user: str, door=None, gzip: bool = False) -> Caller:
        door = door or self.door
        address = f"localhost:{door.address.rpartition(':')[2]}"
        return Caller(address, self.proof.certificate.read_bytes(), self.proof.token(user, TEAMS[user]), gzip)

    def identity(self, user: str) -> str:
        return self.drivers[TEAMS[user]].identity(self.session, user)


@pytest.fixture
def trio(proved, proof, driver, other_driver) -> Trio:
    return Trio(proved, proof, driver, other_driver)


@pytest.fixture(scope="module")
def lenient(proof, driver, tmp_path_factory) -> rig.Sconce:
    """One that lets a second user_context pass."""
    settings = "user_context: { repeated: pass }\n"
    sconce = rig.Sconce(tmp_path_factory.mktemp("lenient"), {"ads": driver}, proof=proof, settings=settings)
    yield sconce
    sconce.stop()


@pytest.fixture(params=["eve", "bob"], ids=["of the same team", "of another team"])
def stranger(request) -> str:
    return request.param


def answered(caller: Caller, method: str, claim, session: str, victim: str) -> str:
    """Which of the server's sessions a method was done in; what it needs is made by the caller himself."""
    asked = request(method, session)
    if method == "ReattachExecute":
        begun = request("ExecutePlan", session, operation_id=asked.operation_id)
        begun.request_options.add().reattach_options.reattachable = True
        assert caller("ExecutePlan", begun)
    if method == "FetchErrorDetails":
        asked.error_id = failed(caller, session)
    told = caller(method, claim(asked, victim))[0]
    if method == "FetchErrorDetails" and told.errors:
        # Such an answer names no session; that the error was found in it is as good.
        return caller("Config", request("Config", session))[0].server_side_session_id
    return told.server_side_session_id


def failed(caller: Caller, session: str) -> str:
    """Does something wrong; how the server calls the error."""
    wrong = request("ExecutePlan", session)
    wrong.plan.root.sql.query = "SELECT * FROM secret_table"
    with pytest.raises(grpc.RpcError) as raised:
        caller("ExecutePlan", wrong)
    info = error_details_pb2.ErrorInfo()
    assert rpc_status.from_call(raised.value).details[0].Unpack(info)
    return info.metadata["errorId"]


@pytest.mark.quick
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_done_as_the_user_who_was_proved(trio, method, claim, gzip):
    eves, anns = trio.identity("eve"), trio.identity("ann")
    assert eves != anns
    told = answered(trio.caller("eve", gzip=gzip), method, claim, trio.session, "ann")
    assert told == eves
    assert trio.identity("ann") == anns


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("method", METHODS)
def test_a_second_user_context_is_refused_or_overruled(trio, lenient, method, gzip):
    eves = trio.identity("eve")
    twice = appended(claimed(request(method, trio.session), "eve"), "ann")
    code, words = trio.caller("eve", gzip=gzip).refused(method, twice)
    assert (code, "user_context more than once" in words) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    claim = lambda made, victim: appended(claimed(made, "eve"), victim)  # noqa: E731
    assert answered(trio.caller("eve", lenient, gzip), method, claim, trio.session, "ann") == eves


def test_gzip_calls_are_compressed_indeed(trio, door_to, proof, driver):
    """What proves that the cases above do what their names say."""
    strict = door_to({"ads": driver}, proof=proof, settings="user_context: { compressed: refuse }\n")
    for method in METHODS:
        asked = request(method, trio.session)
        code, words = trio.caller("eve", strict, gzip=True).refused(method, asked)
        assert (code, "compressed" in words) == (grpc.StatusCode.UNIMPLEMENTED, True)


def test_an_operation_cannot_be_touched_by_whoever_knows_its_id(trio, stranger):
    ann, other = trio.caller("ann"), trio.caller(stranger)
    operation = str(uuid.uuid4())
    long = request("ExecutePlan", trio.session, operation_id=operation)
    long.plan.root.sql.query = LONG
    long.tags.append("mine")
    long.request_options.add().reattach_options.reattachable = True
    running = ann.stream("ExecutePlan", claimed(long, "ann"))
    # An interrupt that comes while Spark still plans can leave the job running.
    started = next(one for one in running if any(stage.num_tasks for stage in one.execution_progress.stages))
    assert started.operation_id == operation

    def claims(method: str, **more):
        return other(method, claimed(request(method, trio.session, **more), "ann"))[0]

    theirs = trio.identity(stranger)  # from now on there is a session
    asked = claimed(request("ReattachExecute", trio.session, operation_id=operation), "ann")
    assert "OPERATION_NOT_FOUND" in other.refused("ReattachExecute", asked)[1]
    assert not claims("ReleaseExecute", operation_id=operation).operation_id
    for kind, more in {"ALL": {}, "TAG": {"operation_tag": "mine"}, "OPERATION_ID": {"operation_id": operation}}.items():
        number = pb.InterruptRequest.InterruptType.Value(f"INTERRUPT_TYPE_{kind}")
        assert not claims("Interrupt", interrupt_type=number, **more).interrupted_ids
    own = claims("ExecutePlan", operation_id=operation)
    assert (own.operation_id, own.server_side_session_id) == (operation, theirs)
    assert ann("Interrupt", claimed(request("Interrupt", trio.session), stranger))[0].interrupted_ids == [operation]
    with pytest.raises(grpc.RpcError) as ended:
        list(running)
    assert "OPERATION_CANCELED" in ended.value.details()


def test_config_and_artifacts_of_another_are_not_there(trio, stranger):
    ann, other = trio.caller("ann"), trio.caller(stranger)
    setting = request("Config", trio.session)
    setting.operation.set.pairs.add(key="sconce.word", value="ann's")
    assert ann("Config", claimed(setting, stranger))
    content = uuid.uuid4().bytes
    adding = request("AddArtifacts", trio.session)
    adding.batch.artifacts[0].name = name = f"cache/{uuid.uuid4().hex * 2}"
    adding.batch.artifacts[0].data.data, adding.batch.artifacts[0].data.crc = content, zlib.crc32(content)
    assert ann("AddArtifacts", claimed(adding, stranger))[0].artifacts[0].is_crc_successful
    reading = request("Config", trio.session)
    reading.operation.get_with_default.pairs.add(key="sconce.word", value="nothing")
    asking = request("ArtifactStatus", trio.session)
    asking.names[:] = [name]

    def seen(caller: Caller, claim: str) -> tuple:
        pairs = caller("Config", claimed(reading, claim))[0].pairs
        return pairs[0].value, caller("ArtifactStatus", claimed(asking, claim))[0].statuses[name].exists

    assert seen(ann, stranger) == ("ann's", True)
    assert seen(other, "ann") == ("nothing", False)


def test_details_of_another_s_error_are_not_told(trio, stranger):
    ann, other = trio.caller("ann"), trio.caller(stranger)
    asking = request("FetchErrorDetails", trio.session, error_id=failed(ann, trio.session))
    assert not other("FetchErrorDetails", claimed(asking, "ann"))[0].errors
    told = ann("FetchErrorDetails", claimed(asking, stranger))[0].errors
    assert "secret_table" in told[0].message


def test_a_session_can_be_ended_only_by_its_owner(trio, stranger):
    ann, other = trio.caller("ann"), trio.caller(stranger)
    before = ann("Config", request("Config", trio.session))[0].server_side_session_id
    other("ReleaseSession", claimed(request("ReleaseSession", trio.session), "ann"))
    assert ann("Config", request("Config", trio.session))[0].server_side_session_id == before
    ann("ReleaseSession", claimed(request("ReleaseSession", trio.session), stranger))
    assert "SESSION_CLOSED" in ann.refused("Config", request("Config", trio.session))[1]


def test_a_session_of_another_cannot_be_cloned(trio, stranger):
    ann, other = trio.caller("ann"), trio.caller(stranger)
    ann("Config", request("Config", trio.session))
    asking = request("CloneSession", trio.session)
    assert "SESSION_NOT_FOUND" in other.refused("CloneSession", claimed(asking, "ann"))[1]
    assert ann("CloneSession", claimed(asking, stranger))[0].new_session_id == asking.new_session_id


test_a_session_of_another_cannot_be_cloned.__test__ = "CloneSession" in METHODS  # clients of 4.1 and later know it


def test_a_method_that_does_not_exist_is_answered_as_directly(trio):
    def answer(caller: Caller) -> tuple:
        call = caller.channel.unary_unary(f"/{SERVICE.full_name}/NoSuchThing")
        with pytest.raises(grpc.RpcError) as told:
            call(request("Config", trio.session).SerializeToString(), metadata=caller.metadata, timeout=10)
        return told.value.code(), told.value.details()

    directly = answer(trio.drivers["ads"])
    assert answer(trio.caller("ann")) == directly
    assert directly[0] == grpc.StatusCode.UNIMPLEMENTED
