// A client of `@nats-io/transport-node` at work; its first argument is the folder that has it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, url, subject, work, ...numbers] = process.argv.slice(2);
const [count, warmUp, callers] = numbers.map(Number);
const require = createRequire(`${folder}/`);
const { connect } = require("@nats-io/transport-node");
const client = await connect({ servers: url });
const payload = new TextEncoder().encode("0123456789abcdef");

const now = () => [performance.now() / 1e3, Object.values(process.cpuUsage()).reduce((sum, each) => sum + each) / 1e6];

function ready() {
  const description = `${folder}/node_modules/@nats-io/transport-node/package.json`;
  const { name, version } = JSON.parse(readFileSync(description, "utf8"));
  console.log(`ready ${name} ${version}, Node ${process.versions.node}`);
}

function done(start) {
  const [seconds, cpu_seconds] = now().map((each, index) => each - start[index]);
  console.log("done", JSON.stringify({ seconds, cpu_seconds }));
}

async function request(count) {
  const caller = async (first) => {
    for (let number = first; number < count; number += callers) {
      await client.request(subject, payload, { timeout: 10_000 });
    }
  };
  await Promise.all(Array.from({ length: Math.min(callers, count) }, (_, first) => caller(first)));
}

async function publish(count) {
  for (let number = 0; number < count; number++) {
    client.publish(subject, payload);
  }
  await client.flush();
}

if (work === "receive") {
  const messages = client.subscribe(subject);
  await client.flush();
  ready();
  let received = 0;
  let start;
  for await (const _ of messages) {
    received++;
    if (received === warmUp) {
      console.log("warm");
      start = now();
    } else if (received === warmUp + count) {
      break;
    }
  }
  done(start);
} else {
  const run = { request, publish }[work];
  ready();
  await run(warmUp);
  const start = now();
  await run(count);
  done(start);
}
await client.close();
