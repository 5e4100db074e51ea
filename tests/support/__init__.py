"""What tests of several packages share: real servers, real processes, a client, faults."""
