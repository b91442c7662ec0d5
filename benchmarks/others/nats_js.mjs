// The echo service of `@nats-io/services`; its first argument is the folder that has it.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, url, subject] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { connect } = require("@nats-io/transport-node");
const { Svcm } = require("@nats-io/services");

const client = await connect({ servers: url });
const service = await new Svcm(client).add({ name: "echo", version: "1.0.0" });
service.addEndpoint("echo", { subject, handler: (error, request) => request?.respond(request.data) });
await client.flush();

const versions = ["@nats-io/services", "@nats-io/transport-node"].map((name) => {
  const description = JSON.parse(readFileSync(`${folder}/node_modules/${name}/package.json`, "utf8"));
  return `${name} ${description.version}`;
});
console.log("ready", [...versions, `Node ${process.versions.node}`].join(", "));
await client.closed();
