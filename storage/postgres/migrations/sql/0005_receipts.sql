-- 0005 receipts: when a member's delivered mark moved last, as read_at says it of the read mark.

-- Null: the mark came with the membership. delivered_seq may lag behind read_seq, which implies it.
ALTER TABLE members ADD COLUMN delivered_at timestamptz;
