"""The archiver: moves every durable event from Redis into PostgreSQL, in order, once."""
