"use strict";

// `ws` with a plain loop: a room is a set of sockets, a publish is sent to each of them in turn.
// It stores nothing, asks nobody, and forgets all when it ends.
//
//     node server.js PORT

const { WebSocketServer, WebSocket } = require("ws");
require("bufferutil"); // ws takes it by itself when it is there; here it has to be
const { eventOf } = require("../events.js");

const KEEPALIVE_MS = 25_000; // as Parley's

const rooms = new Map();
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: false,
});

function subscribe(socket, frame) {
  let members = rooms.get(frame.room);
  if (members === undefined) rooms.set(frame.room, (members = new Set()));
  members.add(socket);
  socket.rooms.add(members);
  socket.send(`{"type":"reply","id":${frame.id},"result":{"room":"${frame.room}"}}`);
}

function publish(socket, frame) {
  const event = eventOf(frame.room, socket.user, frame.content, frame.client_id);
  const text = Buffer.from(JSON.stringify(event)); // once, and not for each receiver
  for (const member of rooms.get(frame.room) ?? []) {
    if (member.readyState === WebSocket.OPEN) member.send(text, { binary: false });
  }
  socket.send(`{"type":"reply","id":${frame.id},"result":{}}`);
}

server.on("connection", (socket, request) => {
  socket.user = new URL(request.url, "http://localhost").searchParams.get("user");
  socket.rooms = new Set();
  socket.isAlive = true;
  socket.on("message", (data) => {
    const frame = JSON.parse(data);
    if (frame.type === "publish") publish(socket, frame);
    else if (frame.type === "subscribe") subscribe(socket, frame);
  });
  socket.on("pong", () => {
    socket.isAlive = true;
  });
  socket.on("close", () => {
    for (const members of socket.rooms) members.delete(socket);
  });
  socket.on("error", () => socket.terminate());
});

setInterval(() => {
  for (const socket of server.clients) {
    if (!socket.isAlive) {
      socket.terminate();
      continue;
    }
    socket.isAlive = false;
    socket.ping();
  }
}, KEEPALIVE_MS);
