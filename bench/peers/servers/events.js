"use strict";

// An event with what Parley's has but for its order numbers, which these servers do not give.

const { randomUUID } = require("node:crypto");

exports.eventOf = (room, sender, content, clientId) => {
  const now = new Date().toISOString();
  return {
    type: "event",
    event: "message.created",
    room,
    time: now,
    data: {
      id: randomUUID(),
      room,
      sender,
      kind: "text",
      content,
      metadata: {},
      attachments: [],
      mentions: [],
      reply_to: null,
      reply_count: 0,
      forwarded_from: null,
      client_id: clientId,
      created_at: now,
      edited_at: null,
      deleted_at: null,
      deleted_by: null,
      reactions: {},
    },
  };
};
