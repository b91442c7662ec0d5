// `@nats-io/services`; the first argument is the folder that has it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, what, url, ...rest] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { connect, headers } = require("@nats-io/transport-node");
const { ServiceError, Svcm } = require("@nats-io/services");

const SECONDS = 20;
const client = await connect({ servers: url });

async function serve(text) {
  const wanted = JSON.parse(text);
  const service = await new Svcm(client).add({
    name: wanted.name,
    version: wanted.version,
    description: wanted.description,
    metadata: wanted.metadata,
  });
  const group = service.addGroup(wanted.name);
  group.addEndpoint("echo", {
    metadata: wanted.endpoint_metadata,
    handler: (error, request) => {
      if (request.string() === wanted.unanswered) return;
      const trace = request.headers?.get("Trace");
      const traced = headers();
      if (trace) traced.set("Traced", trace);
      request.respond(request.data, trace ? { headers: traced } : undefined);
    },
  });
  group.addEndpoint("fail", {
    queue: wanted.failing_queue_group,
    handler: (error, request) => {
      const text = { expected: wanted.text, unicode: wanted.unicode_text }[request.string()];
      if (!text) throw new Error("the colour of the database");
      request.respondError(wanted.code, text, wanted.data);
    },
  });
  await client.flush();
  const versions = ["@nats-io/services", "@nats-io/transport-node"].map((name) => {
    const description = JSON.parse(readFileSync(`${folder}/node_modules/${name}/package.json`, "utf8"));
    return `${name} ${description.version}`;
  });
  versions.push(`Node ${process.versions.node}`);
  console.log("ready", JSON.stringify({ id: service.info().id, versions: versions.join(", ") }));
  for await (const line of createInterface({ input: process.stdin })) {
    if (line !== "reset") throw new Error(line);
    service.reset();
    console.log("done");
  }
}

async function discover(name, id, count) {
  const targets = { all: ["", "", count], name: [name, "", count], id: [name, id, 1] };
  const found = {};
  for (const verb of ["ping", "info", "stats"]) {
    found[verb.toUpperCase()] = {};
    for (const [target, [name, id, count]] of Object.entries(targets)) {
      const options = { strategy: "count", maxMessages: Number(count), maxWait: SECONDS * 1000 };
      const replies = [];
      for await (const reply of await new Svcm(client).client(options)[verb](name, id)) replies.push(reply);
      found[verb.toUpperCase()][target] = replies;
    }
  }
  console.log(JSON.stringify(found));
}

async function request(text) {
  const results = {};
  for (const [key, subject, payload] of JSON.parse(text)) {
    const sent = headers();
    sent.set("Trace", "a-1");
    const reply = await client.request(subject, payload, { headers: sent, timeout: SECONDS * 1000 });
    const error = ServiceError.toServiceError(reply);
    results[key] = {
      data: reply.string(),
      traced: reply.headers?.get("Traced") || null,
      error: error && { code: error.code, text: error.message },
    };
  }
  console.log(JSON.stringify(results));
}

await { serve, discover, request }[what](...rest);
await client.close();
