// The gateway that people build by hand in front of ZooKeeper, in one file: services are the children of a root, instances the names
// of their children; a request names its service in a header. It is a witness of what we write, with the weaknesses that such gateways
// have: a service without instances keeps its last ones, and an instance that is dead and still listed ends the process.
//
// ZOOKEEPER: servers, with commas. ROOT: the node below which services are. It says where it listens, and every list it learns.
'use strict';

const express = require('express');
const http = require('http');
const loadbalance = require('loadbalance');
const proxy = require('http-proxy').createProxyServer({});
const zookeeper = require('node-zookeeper-client');

const root = process.env.ROOT || '/services';
const client = zookeeper.createClient(process.env.ZOOKEEPER);
const routes = {};

function getServices(path) {
    client.getChildren(path, () => getServices(path), (error, children) => {
        if (error) {
            console.log('failed: %s', error);
            return;
        }
        children.forEach((name) => getService(path + '/' + name));
    });
}

function getService(path) {
    client.getChildren(path, () => getService(path), (error, children) => {
        if (error) {
            console.log('failed: %s', error);
            return;
        }
        if (children.length > 0) {
            routes[path] = loadbalance.roundRobin(children);
        }
        console.log('%s: %s', path, children.sort().join(' '));
    });
}

function reverseProxy(request, response) {
    const engine = routes[root + '/' + request.headers.service_name];
    proxy.web(request, response, { target: 'http://' + engine.pick() + request.headers.api_name });
}

client.once('connected', () => getServices(root));
client.connect();

const app = express();
app.use('/services', reverseProxy);
const server = http.createServer(app).listen(0, '127.0.0.1', () => {
    console.log('listening on %s', server.address().port);
});
