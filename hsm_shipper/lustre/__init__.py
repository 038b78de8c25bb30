"""All that is read on the metadata server: actions files, the coordinator's files, which MDTs are here."""
