// A second implementation of gRPC, unlike grpc-core in windows, frames and cancellation, against the same driver.
//
//   node cases.js <host:port> <descriptors> [team]     prints one JSON object: case -> what came of it
//
// The messages come from the descriptors inside the installed PySpark; no .proto is copied.
'use strict';
const { createHash, randomUUID } = require('node:crypto');
const { readFileSync } = require('node:fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, descriptors, team] = process.argv.slice(2);
const loaded = loader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors), { longs: String, enums: String, keepCase: true });
const { SparkConnectService } = grpc.loadPackageDefinition(loaded).spark.connect;
const client = new SparkConnectService(address, grpc.credentials.createInsecure(), {
  'grpc.max_receive_message_length': 128 * 1024 * 1024,
});
const metadata = new grpc.Metadata();
if (team) {
  metadata.set('x-sconce-team', team);
  metadata.set('x-sconce-env', 'prod');
}
const who = { session_id: randomUUID(), user_context: { user_id: 'js' } };
const plan = (query) => ({ ...who, plan: { root: { sql: { query } } } });

const config = () =>
  new Promise((resolve) => {
    const operation = { set: { pairs: [{ key: 'sconce.js', value: 'größe 🟢' }] } };
    client.Config({ ...who, operation }, metadata, (failed) => {
      if (failed) return resolve({ code: failed.code, details: failed.details });
      client.Config({ ...who, operation: { get: { keys: ['sconce.js'] } } }, metadata, (error, told) =>
        resolve(error ? { code: error.code } : { value: told.pairs[0].value }));
    });
  });

// Runs a query to its end; counts and digests the Arrow octets. With `cancelAfter`, cancels after so many messages.
const execute = (query, cancelAfter = Infinity) =>
  new Promise((resolve) => {
    const call = client.ExecutePlan(plan(query), metadata);
    const digest = createHash('sha256');
    let [rows, octets, messages] = [0, 0, 0];
    call.on('data', (message) => {
      if (message.arrow_batch) {
        rows += Number(message.arrow_batch.row_count);
        octets += message.arrow_batch.data.length;
        digest.update(message.arrow_batch.data);
      }
      if (++messages === cancelAfter) call.cancel();
    });
    call.on('error', (error) => resolve({ code: error.code, details: cancelAfter < Infinity ? '' : error.details }));
    call.on('end', () => resolve({ rows, octets, digest: digest.digest('hex') }));
  });

const text = "repeat(sha2(cast(id AS string), 256), 1024)";
const main = async () => {
  const told = {
    config: await config(),
    rows: await execute('SELECT id, id * 2 FROM range(5)'),
    error: await execute('SELECT raise_error("größe 🟢")'),
    download: await execute(`SELECT ${text} FROM range(0, 800, 1, 8)`),
    cancel: await execute(`SELECT ${text} FROM range(0, 4000, 1, 40)`, 2),
  };
  told.after = await execute('SELECT 1');
  console.log(JSON.stringify(told));
  client.close();
};
main();
