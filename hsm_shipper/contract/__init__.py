"""What the shipper and everybody who reads its streams agree on: kernel lines, events, the fold, keys. Pure."""
