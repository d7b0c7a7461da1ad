// Works on keys with npm's `consul` client. Each line it is told is JSON, [method, options] of `kv` or
// ["transaction", operations]; it answers with a line of JSON: what came back, less the indexes, or the error. With
// ["watch", options] it prints a line for every change that the client's own watch sees. Told by the environment: HOST,
// PORT.
"use strict";

const readline = require("readline");
const Consul = require("consul");

const { HOST: host, PORT: port } = process.env;
const consul = new Consul({ host, port: Number(port) });

const shown = (data) =>
  JSON.stringify(data === undefined ? null : data, (name, value) =>
    ["CreateIndex", "ModifyIndex"].includes(name) ? undefined : value,
  );

const follow = (options) => {
  const watch = consul.watch({
    method: consul.kv.get,
    options: { ...options, wait: "20s" },
    backoffFactor: 50,
    backoffMax: 500,
  });
  watch.on("change", (data) => console.log(`watched ${shown(data)}`));
  watch.on("error", (error) => console.log(JSON.stringify({ error: error.message })));
};

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const [method, options] = JSON.parse(line);
  if (method === "watch") return follow(options);
  try {
    const asked = method === "transaction" ? consul.transaction.create(options) : consul.kv[method](options);
    console.log(shown(await asked));
  } catch (error) {
    console.log(JSON.stringify({ error: error.message }));
  }
});

// Whoever started this is gone when its end of the pipe is.
lines.on("close", () => process.exit(0));
