// Follows one service with npm's `consul` client, and prints a line of JSON for each answer it gets: the instances that
// pass, as this client shows them. Told by the environment: HOST, PORT, SERVICE.
"use strict";

const Consul = require("consul");

const { HOST: host, PORT: port, SERVICE: service } = process.env;
const consul = new Consul({ host, port: Number(port) });
const watch = consul.watch({
  method: consul.health.service,
  options: { service, passing: true, wait: "20s" },
  backoffFactor: 50,
  backoffMax: 500,
});

watch.on("change", (entries) => {
  const instances = entries.map(({ Node, Service }) => ({
    id: Service.ID,
    endpoint: `${Service.Address || Node.Address}:${Service.Port}`,
    tags: [...Service.Tags].sort(),
    version: (Service.Meta || {}).version || null,
  }));
  instances.sort((a, b) => (a.id < b.id ? -1 : 1));
  console.log(JSON.stringify({ instances }));
});
watch.on("error", (error) => console.log(JSON.stringify({ error: error.message })));

// Whoever started this is gone when its end of the pipe is.
process.stdin.on("end", () => process.exit(0)).resume();
