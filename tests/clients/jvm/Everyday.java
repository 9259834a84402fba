// What a person does with Spark's JVM client, each thing a case: one line of JSON for each on stdout.
//
//     java ... Everyday <sc:// URL> <a file to upload> <case> ...
//
// The client has another package since Spark 4.0; the runner writes it into the import below.

import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.spark.sql.SparkSession;

public final class Everyday {
    private static final int MANY = 2_000_000;
    private static final int SECONDS = 60;

    public static void main(String[] arguments) throws Exception {
        SparkSession session = SparkSession.builder().remote(arguments[0]).create();
        for (int at = 2; at < arguments.length; at++) {
            String name = arguments[at];
            tell(name, () -> run(session, name, arguments[1]));
        }
        System.out.flush();
        System.exit(0); // threads of gRPC would wait
    }

    /** What a case has found. */
    private static String run(SparkSession session, String name, String file) throws Exception {
        switch (name) {
            case "version":
                return session.version();
            case "sql":
                return session.sql("SELECT id, concat('größe ', id) AS t FROM range(3)").collectAsList().toString();
            case "dataframe":
                return String.valueOf(session.range(100_000).filter("id % 2 = 0").selectExpr("id * 2 AS twice").count());
            case "config":
                session.conf().set("spark.sql.shuffle.partitions", "3");
                return session.conf().get("spark.sql.shuffle.partitions");
            case "large":
                return large(session);
            case "error":
                return error(session);
            case "artifacts":
                session.addArtifact(file);
                return "sent";
            case "interrupt":
                return interrupt(session);
            case "streaming":
                return streaming(session);
            case "stop":
                session.stop();
                return "stopped";
            default:
                throw new IllegalArgumentException(name);
        }
    }

    /** Tens of megabytes of rows, read one after another. */
    private static String large(SparkSession session) throws Exception {
        var rows = session.range(MANY).selectExpr("id", "repeat('x', 16) AS t").toLocalIterator();
        long sum = 0;
        while (rows.hasNext()) {
            sum += ((org.apache.spark.sql.Row) rows.next()).getLong(0);
        }
        if (rows instanceof AutoCloseable closeable) {
            closeable.close();
        }
        return String.valueOf(sum);
    }

    private static String error(SparkSession session) {
        try {
            session.sql("SELECT nowhere").collectAsList();
            return "no error";
        } catch (Exception fault) {
            return fault.getMessage().contains("UNRESOLVED_COLUMN") ? "UNRESOLVED_COLUMN" : fault.toString();
        }
    }

    /** A query of half a minute is interrupted once it runs: one that has not begun begins all the same in Spark. */
    private static String interrupt(SparkSession session) throws Exception {
        var query = CompletableFuture.supplyAsync(
                () -> session.range(10_000_000_000L).selectExpr("sum(id % 7)").collectAsList());
        Thread.sleep(3_000);
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
        while (!query.isDone() && System.nanoTime() < until) {
            session.interruptAll();
            Thread.sleep(500);
        }
        try {
            return "it ended by itself: " + query.get(1, TimeUnit.SECONDS);
        } catch (ExecutionException fault) {
            String told = String.valueOf(fault.getCause());
            return told.contains("OPERATION_CANCELED") ? "OPERATION_CANCELED" : told;
        }
    }

    private static String streaming(SparkSession session) throws Exception {
        var ticks = session.readStream().format("rate").option("rowsPerSecond", "50").load();
        var query = ticks.writeStream().format("memory").queryName("ticks").outputMode("append").start();
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
        long rows = 0;
        while (rows == 0 && System.nanoTime() < until) {
            Thread.sleep(300);
            rows = session.sql("SELECT * FROM ticks").count();
        }
        query.stop();
        return rows > 0 ? "rows" : "no rows";
    }

    private static void tell(String name, Callable<String> found) {
        String word;
        String told;
        try {
            told = found.call();
            word = "found";
        } catch (Throwable fault) {
            told = fault.toString();
            word = "fault";
        }
        System.out.println("{\"case\": " + quoted(name) + ", \"" + word + "\": " + quoted(told) + "}");
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char letter : text.toCharArray()) {
            boolean plain = letter >= ' ' && letter < 127 && letter != '"' && letter != '\\';
            out.append(plain ? String.valueOf(letter) : String.format("\\u%04x", (int) letter));
        }
        return out.append('"').toString();
    }
}
