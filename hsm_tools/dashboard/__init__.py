"""The interactive part of `hsm-action-top`: nothing else imports Textual."""
