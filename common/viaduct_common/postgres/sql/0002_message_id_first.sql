-- With the sender first, which is nearly always the same few, each step down the index compares a text and then a uuid;
-- a message id alone tells nearly all requests apart.
ALTER TABLE request DROP CONSTRAINT request_pkey, ADD PRIMARY KEY (message_id, sender);
