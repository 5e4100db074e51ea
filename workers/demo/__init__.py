"""`parley demo`: a few scripted users who talk in a room, over real connections, for a minute."""
