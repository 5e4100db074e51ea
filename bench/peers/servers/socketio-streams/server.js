"use strict";

// Socket.IO with the Redis streams adapter, WebSocket only. A publish is a broadcast to the room,
// the answer is the acknowledgement of the publisher's event.
//
//     node server.js PORT REDIS_URL

const { createServer } = require("node:http");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-streams-adapter");
require("bufferutil"); // ws takes it by itself when it is there; here it has to be
const { eventOf } = require("../events.js");

async function main(port, redisUrl) {
  const redis = createClient({ url: redisUrl });
  redis.on("error", (error) => {
    console.error(error);
    process.exit(1);
  });
  await redis.connect();

  const http = createServer();
  const io = new Server(http, {
    transports: ["websocket"],
    serveClient: false,
    perMessageDeflate: false,
    httpCompression: false,
    adapter: createAdapter(redis, { onlyPlaintext: true }),
  });
  io.engine.on("connection", (raw) => {
    raw.user = raw.request._query.user;
    raw.request = null; // as the performance page recommends: it is kept for sessions of express
  });
  io.on("connection", (socket) => {
    const { user } = socket.conn;
    socket.on("subscribe", async (room, answer) => {
      await socket.join(room);
      answer(room);
    });
    socket.on("publish", (room, content, clientId, answer) => {
      io.to(room).emit("message.created", eventOf(room, user, content, clientId));
      answer();
    });
  });
  http.listen(port, "127.0.0.1");
}

main(Number(process.argv[2]), process.argv[3]);
