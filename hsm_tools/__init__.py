"""Reads the streams that hsm_shipper writes: the consumer library and the command-line tools on top of it."""
