"""Maintenance: heals and trims the streams of this server's MDTs, on a schedule."""
