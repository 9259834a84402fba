"""Spark's own messages without PySpark's client: a caller that can claim what it likes, octet for octet."""

import uuid

import grpc
from google.protobuf import message_factory
from pyspark.sql.connect.proto import base_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["SparkConnectService"]
PADDING = "x" * 4096  # in client_type: gRPC compresses nothing that would not become smaller


class Caller:
    """One user, or whoever shows this token; without roots in clear text, as a driver is asked directly."""

    def __init__(self, address: str, roots: bytes | None = None, token: str | None = None, gzip: bool = False):
        compression = grpc.Compression.Gzip if gzip else None
        if roots is None:
            self.channel = grpc.insecure_channel(address, compression=compression)
        else:
            credentials = grpc.ssl_channel_credentials(roots)
            self.channel = grpc.secure_channel(address, credentials, compression=compression)
        self.metadata = [("x-sconce-env", "prod"), *([("authorization", f"Bearer {token}")] if token else [])]

    def __call__(self, method: str, request) -> list:
        """The responses to one request, given as a message or as octets."""
        return list(self.stream(method, request))

    def stream(self, method: str, request):
        """The same, while they come."""
        kind = SERVICE.methods_by_name[method]
        ways = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary"}
        way = getattr(self.channel, ways[kind.client_streaming, kind.server_streaming])
        answer = message_factory.GetMessageClass(kind.output_type)
        call = way(f"/{SERVICE.full_name}/{method}", response_deserializer=answer.FromString)
        octets = request if isinstance(request, bytes) else request.SerializeToString()
        given = iter([octets]) if kind.client_streaming else octets
        told = call(given, metadata=self.metadata, timeout=60)
        return told if kind.server_streaming else iter([told])

    def refused(self, method: str, request) -> tuple[grpc.StatusCode, str]:
        """The code and the words with which a call ends."""
        try:
            told = self(method, request)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError(f"{method} was answered: {told}")

    def identity(self, session: str, user: str) -> str:
        """How the server calls the session of this user, who is claimed; it is made if need be."""
        return self("Config", claimed(request("Config", session), user))[0].server_side_session_id


def request(method: str, session: str, **more):
    """A sound request of a method, without a user_context."""
    made = message_factory.GetMessageClass(SERVICE.methods_by_name[method].input_type)(session_id=session)
    made.client_type = PADDING
    if method == "Config":
        made.operation.get.keys.append("spark.app.name")
    elif method == "AnalyzePlan":
        made.spark_version.SetInParent()
    elif method == "ExecutePlan":
        made.plan.root.sql.query = "SELECT 'done'"
    elif method == "AddArtifacts":
        made.batch.artifacts.add(name=f"cache/{'0' * 64}").data.data = b"x"
        made.batch.artifacts[0].data.crc = 0x8CDC1683  # CRC-32 of x
    elif method == "ArtifactStatus":
        made.names.append(f"cache/{'0' * 64}")
    elif method == "Interrupt":
        made.interrupt_type = pb.InterruptRequest.INTERRUPT_TYPE_ALL
    elif method in ("ReattachExecute", "ReleaseExecute"):
        made.operation_id = str(uuid.uuid4())
        if method == "ReleaseExecute":
            made.release_all.SetInParent()
    elif method == "FetchErrorDetails":
        made.error_id = str(uuid.uuid4())
    elif method == "CloneSession":
        made.new_session_id = str(uuid.uuid4())
    for name, value in more.items():
        setattr(made, name, value)
    return made


def claimed(made, user: str):
    """With a user_context that says it is this user."""
    made.user_context.user_id, made.user_context.user_name = user, user.title()
    return made


def appended(made, user: str) -> bytes:
    """With one more user_context behind all else."""
    inner = b"\x0a" + bytes([len(user)]) + user.encode()
    return made.SerializeToString() + b"\x12" + bytes([len(inner)]) + inner
