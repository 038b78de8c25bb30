"""What tests share: servers, a metadata server's files, terminals, waiting. No tests."""
