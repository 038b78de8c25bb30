"""What every tool's command line shares: options, exit codes, colours, messages, text for people."""
