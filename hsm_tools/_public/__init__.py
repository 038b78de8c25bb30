"""The public import name of this project; see `lustre_hsm_action_stream.consumer`."""
