// Registers one instance after the other with npm's `consul` client at one agent, and removes them again, while a watch of the same client
// at another agent waits to see it. Prints one line of JSON: milliseconds until each was seen, and the CPU of all of it in microseconds.
// Told by the environment: OWNER, OTHER (host:port), SAMPLES.
"use strict";

const Consul = require("consul");

const { OWNER, OTHER, SAMPLES } = process.env;
const at = (authority) => new Consul({ host: authority.split(":")[0], port: Number(authority.split(":")[1]) });
const service = "peer-timed";
const [owner, other, count] = [at(OWNER), at(OTHER), Number(SAMPLES)];

let known = new Set();
let wake = () => {};
const watch = other.watch({ method: other.health.service, options: { service, passing: true, wait: "60s" } });
watch.on("change", (entries) => {
  known = new Set(entries.map((entry) => entry.Service.ID));
  wake();
});
watch.on("error", (error) => console.log(JSON.stringify({ error: error.message })));

async function until(holds) {
  while (!holds()) await new Promise((resolve) => (wake = resolve));
}

async function timed(change, holds) {
  const times = [];
  for (let n = 0; n < count; n++) {
    const begun = process.hrtime.bigint();
    await Promise.all([change(n), until(() => holds(`peer-${n}`))]);
    times.push(Number(process.hrtime.bigint() - begun) / 1e6);
  }
  return times;
}

const registration = (n) => ({
  id: `peer-${n}`,
  name: service,
  address: "10.0.0.1",
  port: 1024 + n,
  tags: ["blue", "v1"],
  meta: { region: "eu" },
});

async function main() {
  const before = process.cpuUsage();
  const registered = await timed((n) => owner.agent.service.register(registration(n)), (id) => known.has(id));
  const { user, system } = process.cpuUsage(before);
  const deregistered = await timed((n) => owner.agent.service.deregister(`peer-${n}`), (id) => !known.has(id));
  console.log(JSON.stringify({ registered, deregistered, cpu: user + system }));
}

main().catch((error) => console.log(JSON.stringify({ error: error.message })));
process.stdin.on("end", () => process.exit(0)).resume();
