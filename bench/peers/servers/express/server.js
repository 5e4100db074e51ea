"use strict";

// Express with pg: pages of history from Parley's own tables.
//
//     node server.js PORT DATABASE_URL

const express = require("express");
const { Pool, types } = require("pg");

const CONNECTIONS = 10;
const PAGE = {
  name: "page", // a prepared statement: planned once a connection
  text: `
    SELECT m.id, m.sender, m.kind, m.content, m.metadata, m.attachments, m.mentions, m.reply_to,
           m.reply_count, m.forwarded_from, m.client_id, m.seq, m.created_at, m.edited_at,
           m.deleted_at, m.deleted_by
    FROM messages m
    WHERE m.room_pk = (SELECT pk FROM rooms WHERE project = 'default' AND id = $1) AND m.seq < $2
    ORDER BY m.seq DESC LIMIT $3`,
};

types.setTypeParser(types.builtins.INT8, Number); // a seq is below 2^53
const pool = new Pool({ connectionString: process.argv[3], max: CONNECTIONS });

const app = express();
app.disable("x-powered-by");
app.disable("etag"); // it would hash every page

app.get("/v1/rooms/:room/messages", async (request, response) => {
  const { before, limit } = request.query;
  const { room } = request.params;
  const { rows } = await pool.query({ ...PAGE, values: [room, Number(before), Number(limit)] });
  const messages = rows.reverse().map((row) => ({ ...row, room, reactions: {} }));
  response.json({ messages, has_more: rows.length === Number(limit) });
});

app.listen(Number(process.argv[2]), "127.0.0.1");
