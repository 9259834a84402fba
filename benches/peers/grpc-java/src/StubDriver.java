import io.grpc.HandlerRegistry;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerMethodDefinition;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;

/**
 * A stub driver on grpc-java with Netty, as Spark's server is: takes any call, counts its messages, and answers
 * as the metadata of the call asks. Windows, executors and buffers are those that come by default.
 */
public final class StubDriver {
  private static final int MESSAGE_MAX = 128 << 20;
  private static final Metadata.Key<String> MESSAGES = key("x-answer-messages");
  private static final Metadata.Key<String> SIZE = key("x-answer-size");
  private static final Metadata.Key<String> RECEIVED = key("x-received-messages");

  public static void main(String[] words) throws Exception {
    Server server =
        NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0))
            .maxInboundMessageSize(MESSAGE_MAX)
            .fallbackHandlerRegistry(new Any())
            .build()
            .start();
    System.out.println("listening 127.0.0.1:" + server.getPort());
    server.awaitTermination();
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  /** Every method there could be. */
  private static final class Any extends HandlerRegistry {
    @Override
    public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
      MethodDescriptor<byte[], byte[]> method =
          MethodDescriptor.newBuilder(new Octets(), new Octets())
              .setType(MethodDescriptor.MethodType.BIDI_STREAMING)
              .setFullMethodName(name)
              .build();
      return ServerMethodDefinition.create(method, new Answers());
    }
  }

  /** Messages are not looked into. */
  private static final class Octets implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] message) {
      return new ByteArrayInputStream(message);
    }

    @Override
    public byte[] parse(InputStream message) {
      try {
        return message.readAllBytes();
      } catch (IOException failure) {
        throw new UncheckedIOException(failure);
      }
    }
  }

  private static final class Answers implements ServerCallHandler<byte[], byte[]> {
    @Override
    public ServerCall.Listener<byte[]> startCall(ServerCall<byte[], byte[]> call, Metadata head) {
      call.request(1);
      return new Answer(call, number(head, MESSAGES, 1), number(head, SIZE, 32));
    }

    private static int number(Metadata head, Metadata.Key<String> key, int unless) {
      String value = head.get(key);
      return value == null ? unless : Integer.parseInt(value);
    }
  }

  /** Reads the request to its end, then sends as fast as the call takes it. */
  private static final class Answer extends ServerCall.Listener<byte[]> {
    private final ServerCall<byte[], byte[]> call;
    private final byte[] message;
    private int left;
    private int received;
    private boolean asked;

    Answer(ServerCall<byte[], byte[]> call, int count, int size) {
      this.call = call;
      this.left = count;
      this.message = new byte[size];
    }

    @Override
    public void onMessage(byte[] message) {
      received++;
      call.request(1);
    }

    @Override
    public void onHalfClose() {
      asked = true;
      call.sendHeaders(new Metadata());
      onReady();
    }

    @Override
    public void onReady() {
      while (asked && left > 0 && call.isReady()) {
        call.sendMessage(message);
        left--;
      }
      if (asked && left == 0) {
        asked = false;
        Metadata told = new Metadata();
        told.put(RECEIVED, Integer.toString(received));
        call.close(Status.OK, told);
      }
    }
  }
}
