// Makes one ephemeral node after the other with node-zookeeper-client, and removes them again, while a second client lists their parent
// under a watch, as gateways that people build do. Prints one line of JSON: milliseconds until each was seen, and the CPU of all of it in
// microseconds. Told by the environment: ZOOKEEPER (servers, with commas), SAMPLES.
'use strict';

const zookeeper = require('node-zookeeper-client');

const count = Number(process.env.SAMPLES);
const root = '/peer-timed';
const servers = process.env.ZOOKEEPER.split(',');
// The client picks servers by lot; one each keeps the two apart.
const [owner, other] = [servers[0], servers[1]].map((server) => zookeeper.createClient(server));

let known = new Set();
let wake = () => {};

function list() {
    other.getChildren(root, list, (error, children) => {
        if (error) {
            console.log(JSON.stringify({ error: String(error) }));
            return;
        }
        known = new Set(children);
        wake();
    });
}

const connected = (client) => new Promise((resolve) => {
    client.once('connected', resolve);
    client.connect();
});
const done = (call) => new Promise((resolve, reject) => call((error) => (error ? reject(error) : resolve())));

async function until(holds) {
    while (!holds()) {
        await new Promise((resolve) => { wake = resolve; });
    }
}

async function timed(change, holds) {
    const times = [];
    for (let n = 0; n < count; n++) {
        const begun = process.hrtime.bigint();
        await Promise.all([change(n), until(() => holds('10.0.0.1:' + n))]);
        times.push(Number(process.hrtime.bigint() - begun) / 1e6);
    }
    return times;
}

const body = (n) => Buffer.from(JSON.stringify({
    Name: 'peer', IP: '10.0.0.1', PublicPort: n, PrivatePort: 8080, ContainerID: 'host-1', Tags: ['blue', 'v1'], Attrs: { region: 'eu' },
}));
const path = (n) => root + '/10.0.0.1:' + n;

async function main() {
    await Promise.all([connected(owner), connected(other)]);
    await done((end) => owner.mkdirp(root, end));
    await done((end) => other.exists(root, (error) => end(error)));
    list();
    const before = process.cpuUsage();
    const create = (n) => done((end) => owner.create(path(n), body(n), zookeeper.CreateMode.EPHEMERAL, end));
    const registered = await timed(create, (name) => known.has(name));
    const { user, system } = process.cpuUsage(before);
    const deregistered = await timed((n) => done((end) => owner.remove(path(n), end)), (name) => !known.has(name));
    console.log(JSON.stringify({ registered, deregistered, cpu: user + system }));
}

main().catch((error) => console.log(JSON.stringify({ error: String(error) })));
process.stdin.on('end', () => process.exit(0)).resume();
